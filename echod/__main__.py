"""`python -m echod`: the commands beside the daemon, which twistd runs.

Knows the names of the commands. Must never know what they do.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from echod import __version__
from echod.log import escape

HELP = f"""\
echod {__version__}, a WebSocket echo daemon

    twistd -n echod --port tcp:8080        start the daemon (twistd -n echod --help)
    python -m echod check URL              check a WebSocket echo server (python -m echod check --help)
"""


def main(arguments: Sequence[str], out: TextIO, error_out: TextIO) -> int:
    """Run the command that the arguments name, and return the exit status."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            out.write(HELP)
        case ["--version", *_]:
            out.write(f"echod {__version__}\n")
        case ["check", *rest]:
            from echod import check  # noqa: PLC0415  # takes some tenths of a second that help and version can do without

            return check.main(rest, out, error_out)
        case _:
            error_out.write(f"echod: {escape(arguments[0])} is no command; python -m echod shows what there is\n")
            return os.EX_USAGE
    return os.EX_OK


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        # A locale without UTF-8 must not lose a line.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(main(sys.argv[1:], sys.stdout, sys.stderr))

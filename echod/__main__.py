"""`python -m echod`: the commands other than the daemon, which twistd runs.

Knows the names of the commands, and where their output goes. Must never know what they do.
"""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from errno import EBADF
from typing import TextIO

from echod import __version__
from echod.core.printable import escape

HELP = f"""\
echod {__version__}, a WebSocket echo daemon

    twistd -n --pidfile= echod --port tcp:8080    start the daemon (twistd echod --help)
    python -m echod check URL                     check a WebSocket echo server (python -m echod check --help)
"""


def main(arguments: Sequence[str], out: TextIO, error_out: TextIO) -> int:
    """Run the command that the arguments name, and return the exit status."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            out.write(HELP)
        case ["--version", *_]:
            out.write(f"echod {__version__}\n")
        case ["check", *rest]:
            # Not before it is needed: help and version take a few milliseconds without it.
            from echod.check import command  # noqa: PLC0415

            return command.main(rest, out, error_out)
        case _:
            error_out.write(f"echod: {escape(arguments[0])} is not a command; python -m echod lists the commands\n")
            return os.EX_USAGE
    return os.EX_OK


def run(arguments: Sequence[str], out: TextIO | None, error_out: TextIO | None) -> int:
    """Run the command of a process, and return its exit status, even if its output can't be written.

    A stream is None if the process was started without it.
    """
    if error_out is None:
        with open(os.devnull, "w") as nowhere:
            return run(arguments, out, nowhere)
    told = io.StringIO()
    try:
        with redirect_stdout(told):
            status = main(arguments, told, error_out)
    except SystemExit as end:  # argparse's, after a mistake or the help
        status = int(end.code or 0)
    if not told.getvalue():
        return status
    try:
        if out is None:
            raise OSError(EBADF, os.strerror(EBADF))
        out.write(told.getvalue())
        out.flush()
    except OSError as error:
        if out is not None:
            # Python would try to write the rest of the stream's buffer once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        with suppress(OSError):
            error_out.write(f"echod: can't write to standard output: {error.strerror}\n")
        return os.EX_IOERR
    return status


if __name__ == "__main__":
    # What a command loads is there to stay. A collection that looks at all of it takes 20 ms, and they would seem to be
    # the time of the step of a check in which it happens.
    gc.disable()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # A locale without UTF-8 must not lose a line.
        stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:], sys.stdout, sys.stderr))

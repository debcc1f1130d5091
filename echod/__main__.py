"""The command `echod`, which is also `python -m echod`: it serves, or checks a server.

Knows the names of the commands, and where their output goes. Must never know what they do.
"""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

from echod import __version__
from echod.core import output
from echod.core.printable import escape

HELP = f"""\
echod {__version__}, a WebSocket echo daemon

    echod serve --port tcp:8080    serve in the foreground (echod serve --help)
    echod check URL                check a WebSocket echo server (echod check --help)
    echod completion bash          complete all this in bash, zsh or fish (echod completion --help)
    echod --version                show the version

If the command is not on the PATH, `python -m echod` does the same. echod is also a plugin of twistd and twist, for
example to run in the background: twistd echod --port tcp:8080 (twistd echod --help)
"""


def console() -> int:
    """Run the command of this process, and return its exit status."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["serve"]:
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            # Until the daemon handles it, Ctrl-C ends the process as SIGTERM does. Python would print a traceback. A
            # check leaves it to Twisted, which handles SIGINT only where Python does.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        # The plugin comes first: it hears SIGTERM while all else is loaded. The output is a log, which can't wait for
        # the end of the command.
        from echod import plugin, serve  # noqa: F401, PLC0415

        return serve.main(arguments[1:])
    # What a command loads is there to stay. A collection that looks at all of it takes 20 ms, and they would seem to be
    # the time of the step of a check in which it happens.
    gc.disable()
    for stream in filter(None, (sys.stdout, sys.stderr)):
        # A locale without UTF-8 must not lose a line.
        stream.reconfigure(errors="backslashreplace")
    return run(arguments, sys.stdout, sys.stderr)


def main(arguments: Sequence[str], out: TextIO, error_out: TextIO) -> int:
    """Run the command that the arguments name, other than `serve`, and return the exit status."""
    match arguments:
        case [] | ["-h" | "--help", *_]:
            out.write(HELP)
        case ["--version", *_]:
            out.write(f"echod {__version__}\n")
        case ["check", *rest]:
            # Not before it is needed: help and version take a few milliseconds without it.
            from echod.check import command  # noqa: PLC0415

            return command.main(rest, out, error_out)
        case ["completion", *rest]:
            from echod import completion  # noqa: PLC0415

            return completion.main(rest, out)
        case _:
            error_out.write(f"echod: {escape(arguments[0])} is not a command; echod --help lists the commands\n")
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
    return output.write(told.getvalue(), out, error_out) or status


if __name__ == "__main__":
    sys.exit(console())

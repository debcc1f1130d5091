"""The place of the log: where the options of twistd or twist put it, in our format and within our limits.

Knows the options of the two programs. Must never know what is logged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, TextIO

from twisted.logger import ILogObserver, LegacyLogObserverWrapper
from twisted.python.syslog import SyslogObserver

from echod.core.log import Limiter, LogFormat, make_observer
from echod.run import signals
from echod.upstream.log_file import AppendedLogFile


def take(
    program: Any, log_format: LogFormat, is_chosen: bool, arguments: Sequence[str] = (), output: TextIO | None = None
) -> Limiter | None:
    """Return the observer for the whole log, and make `twist` use it; twistd looks for it in the application.

    `output` takes the place of standard output. The other arguments are those of `check`. Raises `ValueError` for what
    is impossible.
    """
    check(program, is_chosen, arguments)
    if program is None:
        return None
    if "logFile" in program:
        return _take_from_twist(program, log_format, _has_log_format(arguments), output)
    return _make_for_twistd(program, log_format, output)


def check(program: Any, is_chosen: bool, arguments: Sequence[str] = ()) -> None:
    """Raise `ValueError` if the options of the two programs contradict each other.

    `program` has the options of twistd or twist, or is None if neither runs. `arguments` is its command line.
    `is_chosen` says that the format comes from an option of echod.
    """
    if program is None or not is_chosen:
        return
    if "logFile" not in program:
        if program.get("logger") or program.get("syslog"):
            raise ValueError("--log-format can't be combined with twistd's --logger or --syslog")
    elif _has_log_format(arguments):
        raise ValueError("echod's --log-format can't be combined with twist's own")


def put(program: Any, observer: Limiter) -> None:
    """Make twist, with its options in `program`, send the whole log to `observer`; without a program do nothing."""
    if program is not None:
        program["fileLogObserverFactory"] = lambda _: observer


def _has_log_format(arguments: Sequence[str]) -> bool:
    """Tell whether twist's command line sets a log format.

    twist's options can't tell: twist fills in its default, which is JSON where there is no terminal.
    """
    own = takewhile(lambda argument: argument != "echod", arguments)
    return any(argument.startswith("--log-f") and not argument.startswith("--log-fi") for argument in own)


def _take_from_twist(twist: Any, log_format: LogFormat, is_twists_chosen: bool, output: TextIO | None) -> Limiter:
    out = output if output is not None and twist["logFile"] is sys.stdout else twist["logFile"]
    observer = Limiter(twist["fileLogObserverFactory"](out)) if is_twists_chosen else make_observer(out, log_format)
    twist["fileLogObserverFactory"] = lambda _: observer
    return observer


def is_in_background(program: Any) -> bool:
    """Tell whether the program is twistd, and becomes a daemon without a terminal."""
    return program is not None and "logFile" not in program and not (program.get("nodaemon") or program.get("debug"))


def _make_for_twistd(twistd: Any, log_format: LogFormat, output: TextIO | None) -> Limiter:
    if twistd.get("logger"):
        make = twistd["logger"]
        observer = Limiter(_as_observer(make()))
        # twistd prefers this observer to the one in the application.
        twistd["logger"] = lambda: observer
        return observer
    if twistd.get("syslog"):
        return Limiter(_as_observer(SyslogObserver(twistd["prefix"]).emit))
    return make_observer(_open(twistd, output), log_format)


def _as_observer(observer: Any) -> Any:
    return observer if ILogObserver.providedBy(observer) else LegacyLogObserverWrapper(observer)


def _open(twistd: Any, output: TextIO | None) -> Any:
    """Return the file that twistd itself would write to, or `output` in place of standard output."""
    name = twistd.get("logfile")
    if name in (None, "", "-") and not is_in_background(twistd):
        return output or sys.stdout
    if name == "-":
        raise ValueError("a daemon can't log to standard output")
    try:
        log_file = AppendedLogFile.fromFullPath(name or "twistd.log")
    except OSError as error:
        raise ValueError(f"can't write the log: {error}") from error
    signals.handle_rotation(log_file.rotate)
    return log_file

"""This process as the system sees it: its pid file, its folders, its descriptors, and how a failed start ends it.

Knows the operating system, and how twistd takes an error. Must never know endpoints or connections.
"""

from __future__ import annotations

import atexit
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from twisted.internet.selectreactor import SelectReactor
from twisted.logger import Logger

from echod.core.log import SERVICE, stderr_line

MOST_DESCRIPTORS = 2**20
"""The number to use where there is no limit: Linux's default for one process (fs.nr_open)."""

SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE in the C library's headers: select(2) watches only descriptors below it. macOS has that reactor by
default."""

_log = Logger(namespace=SERVICE)


class CannotStartError(Exception):
    """The daemon can't start, for a reason that the operator can mend; it is told in one line, without a traceback."""


def refuse_to_start(reason: str) -> NoReturn:
    """Raise `CannotStartError`, which becomes one line on standard error instead of a traceback.

    It must be an exception that twistd sees: then twistd removes its pid file, and a daemonized twistd tells the
    waiting process.
    """
    reason = " ".join(reason.split())
    # In the log, too: a daemonized twistd cuts the error that it prints, and refers to the log.
    _log.error("{reason}", reason=reason)
    sys.excepthook = _one_line(sys.excepthook)
    raise CannotStartError(reason)


def _one_line(hook: Callable[..., Any]) -> Callable[..., Any]:
    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, CannotStartError):
            stderr_line(f"echod: {error}")
        else:
            hook(kind, error, traceback)

    return excepthook


def fail_at_exit() -> None:
    """Let the process end with exit status 1 after the reactor has stopped: neither twistd nor twist knows of a start
    that fails once the reactor runs."""
    atexit.register(_exit_with_failure)


def _exit_with_failure() -> None:
    # The application has ended. This skips only Python's own end, which would set exit status 0.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def pid_file_fault(path: Path) -> str | None:
    """Return why twistd would not start with this pid file.

    Returns None if twistd would start; it removes a file whose process is gone. twistd itself reports the fault in
    several lines or by a traceback, and without a remedy.
    """
    try:
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return None if os.access(path.resolve().parent, os.W_OK) else "can't be written"
    except OSError as error:
        return f"can't be read: {error.strerror}"
    # A signal to process 0 would go to the whole group of this process (kill(2)).
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", text) or (pid := int(text)) == 0:
        return "holds no process id: remove it"
    if pid == os.getpid():  # the first process of every container has the same id
        return f"is of an earlier process with the same id as this one, {pid}: remove it"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:  # it runs as another user
        pass
    return f"says that process {pid} runs already: stop that process, or remove the file if it is another program"


def folder_fault(chroot: str | None, rundir: str | None) -> str | None:
    """Return why twistd can't run in these folders, the values of its options; None if it can.

    twistd changes the root before it enters the other folder, and reports a missing folder by a traceback.
    """
    if rundir and not Path(f"{chroot}/{rundir}" if chroot else rundir).is_dir():
        return f"--rundir {rundir}: there is no such folder"
    if chroot and not Path(chroot, "dev/null").exists():
        return f"--chroot {chroot}: Twisted needs a dev/null there"
    return None


def set_descriptor_limit(reactor: Any) -> int:
    """Raise `RLIMIT_NOFILE` as far as the system allows and the reactor can use, and return the limit in force.

    A descriptor that the reactor can't use would break the connection that gets it. At the limit, accepting waits.
    """
    most = SELECT_DESCRIPTORS if isinstance(reactor, SelectReactor) else MOST_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    least = 1 if soft == resource.RLIM_INFINITY else min(soft, wanted)
    while not _has_set_limit(limit, hard) and limit > least:
        limit = max(least, limit // 2)
    if limit < wanted:
        _log.warn("the system allows this process {limit} descriptors instead of {wanted}", limit=limit, wanted=wanted)
    return limit


def _has_set_limit(limit: int, hard: int) -> bool:
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (ValueError, OSError):  # macOS refuses more than kern.maxfilesperproc, whatever the hard limit is
        return False
    return True

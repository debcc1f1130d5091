"""Signals: which ones this process handles, from the first moment of its start, and those that end it from outside.

Knows signals. Must never know options, or what the service does when one arrives. It imports only the standard library:
`plugin` uses it before everything else is loaded.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import termios
from collections.abc import Callable
from contextlib import suppress
from errno import EIO
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

_PR_SET_PDEATHSIG = 1
"""From prctl(2)."""


def hear_sigterm(pid: int) -> None:
    """Let SIGTERM end this process, whose id is `pid`, until the service handles it.

    Process 1 of a container has no default action: the kernel drops the signal. And the process may have been started
    with SIGTERM blocked, as in the image (`env --block-signal=TERM`): the kernel keeps a blocked signal, for process 1,
    too, and delivers it here.
    """
    if pid == 1:
        # Nothing is served yet, and nothing has to be cleaned up. An exception could be caught on its way.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


def handle(handler: Handler) -> None:
    """Call `handler` for SIGTERM, and for SIGINT and SIGHUP unless they are ignored.

    They may be ignored since before the start: nohup ignores SIGHUP, and a shell ignores SIGINT for a background job.
    """
    signal.signal(signal.SIGTERM, handler)
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def handle_sigterm_alone(handler: Handler) -> None:
    """Call `handler` for SIGTERM, and ignore SIGINT and SIGHUP: a worker gets these orders from its parent.

    A terminal sends both to the parent as well. A service manager sends SIGTERM to all processes of the service, and an
    operator may send it to one worker.
    """
    signal.signal(signal.SIGTERM, handler)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def handle_rotation(rotate: Callable[[], object]) -> None:
    """Call `rotate` for SIGUSR1, as twistd does for its own log file, unless something handles or ignores it."""
    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, lambda *_: rotate())


def has_lost_terminal(descriptor: int = 0) -> bool:
    """Tell whether the terminal that started the process is gone: then SIGHUP means that nobody is left who could stop
    the process."""
    try:
        termios.tcgetattr(descriptor)
    except termios.error as error:
        return bool(error.args[0] == EIO)
    return False


def end_with_parent() -> None:
    """Let the kernel send this process SIGTERM when its parent ends: a stuck event loop does not notice that the pipe
    is closed."""
    with suppress(AttributeError):  # only Linux has prctl
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_after(seconds: float) -> None:
    """Let the kernel end this process by SIGALRM after `seconds`, even if its event loop is stuck."""
    signal.alarm(math.ceil(seconds))


def describe(number: int) -> str:
    """Return the name of a signal. Python has no names for real-time signals between the first and the last."""
    known = {found.value: found.name for found in signal.Signals}
    return known.get(number, f"signal {number}")

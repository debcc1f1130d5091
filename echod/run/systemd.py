"""What systemd passes to a service, and what it wants to hear: listening sockets (sd_listen_fds(3)) and the state
(sd_notify(3)).

Knows the protocol and its environment variables, which are read once and taken out, so that no child process takes them
for its own. Must never know what is served. Without systemd nothing happens.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import LoopingCall

ALL = "systemd"
"""Instead of an endpoint: one for each socket that was passed."""

STATUS_INTERVAL = 5.0
"""Seconds after which `systemctl status` shows new figures."""

STOP_MARGIN = 5.0
"""Seconds for the end of the process after the drain, which systemd is asked for beside those of the drain."""

_DOMAINS = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


def name_domain(descriptor: int) -> str:
    """Return the address family of a listening socket, as a `systemd:` endpoint has it; raises `ValueError` for what is
    none."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            if passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and passed.type == socket.SOCK_STREAM:
                return _DOMAINS[passed.family]
    except (OSError, KeyError):  # no socket; of a family that has no connections over a network or a path
        pass
    raise ValueError("is not a listening stream socket (ListenStream=, with Accept=no)")


def expand(text: str, descriptors: Sequence[int], prefix: str = "") -> list[str]:
    """Return the endpoint strings that `text` stands for: itself; or for `systemd`, also behind `prefix`, one for each
    passed socket.

    The order of the sockets is that of the `ListenStream=` lines; names don't tell those of one unit apart. Raises
    `ValueError` when there is no socket, or something else is passed.
    """
    if text not in (ALL, prefix + ALL):
        return [text]
    if not descriptors:
        raise ValueError("has no sockets: systemd passed none to this process")
    return [f"{text}:domain={name_domain(descriptor)}:index={index}" for index, descriptor in enumerate(descriptors)]


class Notifier:
    """Tells the service manager what the service does; a message that can't be sent is left at that.

    Each is a datagram to a socket that is not waited for. The state is told again with every tick: it makes no
    difference to systemd, and a message that found the queue full does no harm.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """`address` is a path, or a name in Linux's abstract namespace behind an `@`; `watchdog` the seconds it waits,
        0: for ever."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval = min(STATUS_INTERVAL, watchdog / 2) if watchdog else STATUS_INTERVAL
        self._has_watchdog = bool(watchdog)
        self._socket: socket.socket | None = None
        self._loop: LoopingCall | None = None
        self._state = ""
        self._describe: Callable[[], str] = str

    def start(self, clock: Any, describe: Callable[[], str]) -> None:
        """Tell that the service is ready, and from now on that it lives, with one line of figures from `describe`.

        The sign of life comes from the reactor, `clock`, so that a loop that is stuck is seen.
        """
        if self._address:
            self._describe = describe
            self._loop = LoopingCall(self._tick)
            self._loop.clock = clock
            self._tell("READY=1")
            self._loop.start(self._interval, now=False)

    def reload(self, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Do `work`, told of as a reload until the Deferred fires, which is returned; before the service is ready
        nothing is told."""
        if not self._state:
            return work()
        # notify-reload (systemd 253) compares it with its own time of the signal: CLOCK_MONOTONIC, which is Python's on
        # Linux.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        return maybeDeferred(work).addBoth(self._reloaded)

    def _reloaded(self, result: object) -> object:
        self._tick()
        return result

    def stopping(self, seconds: float) -> None:
        """Tell that the service ends, and that it may take `seconds`: more than TimeoutStopSec, if need be."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((seconds + STOP_MARGIN) * 1e6)}")

    def stop(self) -> None:
        """Say no more."""
        self._address = ""
        if self._loop is not None:
            self._loop.stop()
            self._loop = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, state: str, *more: str) -> None:
        self._state = state
        self._send(*more)
        self._tick()

    def _tick(self) -> None:
        self._send(self._state, f"STATUS={self._describe()}", *(["WATCHDOG=1"] if self._has_watchdog else []))

    def _send(self, *lines: str) -> None:
        # By its path each time, not connected: systemd makes the socket anew when it is executed anew.
        if self._address and lines:
            with suppress(OSError):
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.sendto("\n".join(lines).encode(), self._address)


def take(environment: MutableMapping[str, str]) -> Notifier:
    """Return who tells systemd, by the environment, and take out of it what is for this process alone."""
    values = {name: environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
    # Twisted reads these as it is imported, and takes out what it has used (twisted/python/systemd.py).
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    is_watched = values["WATCHDOG_USEC"].isdecimal() and values["WATCHDOG_PID"] in ("", str(os.getpid()))
    return Notifier(values["NOTIFY_SOCKET"], int(values["WATCHDOG_USEC"]) / 1e6 if is_watched else 0.0)

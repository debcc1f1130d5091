"""systemd: the listening sockets that it passes (sd_listen_fds(3)), and the state that it is told (sd_notify(3)).

Without systemd nothing happens. Knows the protocol and its environment variables: it reads them once and removes them,
so that no child process takes them for its own. Must never know what is served.
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
"""The endpoint string that stands for all sockets that systemd has passed."""

STATUS_INTERVAL = 5.0
"""Seconds between two updates of the figures in `systemctl status`."""

STOP_MARGIN = 5.0
"""Seconds for the end of the process after the drain. systemd is asked for them in addition to the drain's."""

_DOMAINS = {socket.AF_INET: "INET", socket.AF_INET6: "INET6", socket.AF_UNIX: "UNIX"}


def name_domain(descriptor: int) -> str:
    """Return the address family of a listening socket, as a `systemd:` endpoint names it.

    Raises `ValueError` if the descriptor is no listening socket.
    """
    try:
        with socket.socket(fileno=os.dup(descriptor)) as passed:
            if passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and passed.type == socket.SOCK_STREAM:
                return _DOMAINS[passed.family]
    except (OSError, KeyError):  # no socket, or one of another family
        pass
    raise ValueError("is not a listening stream socket (ListenStream=, with Accept=no)")


def expand(text: str, descriptors: Sequence[int], prefix: str = "") -> list[str]:
    """Return the endpoint strings that `text` stands for.

    `systemd`, with or without `prefix`, stands for one endpoint string per passed socket. Any other text stands for
    itself. The sockets have the order of the `ListenStream=` lines, because all sockets of a unit have the same name.
    Raises `ValueError` if systemd has passed no socket, or something else.
    """
    if text not in (ALL, prefix + ALL):
        return [text]
    if not descriptors:
        raise ValueError("has no sockets: systemd passed none to this process")
    return [f"{text}:domain={name_domain(descriptor)}:index={index}" for index, descriptor in enumerate(descriptors)]


class Notifier:
    """Tells the service manager the state of the service.

    Each message is a datagram on a non-blocking socket; one that can't be sent is dropped. Every tick repeats the
    state, so a dropped message does no harm, and systemd ignores a repeated state.
    """

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        """`address` is a path, or `@` and a name in Linux's abstract namespace. `watchdog` is the watchdog's timeout in
        seconds; 0 means that there is none."""
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._interval = min(STATUS_INTERVAL, watchdog / 2) if watchdog else STATUS_INTERVAL
        self._has_watchdog = bool(watchdog)
        self._socket: socket.socket | None = None
        self._loop: LoopingCall | None = None
        self._state = ""
        self._describe: Callable[[], str] = str

    def start(self, clock: Any, describe: Callable[[], str]) -> None:
        """Tell that the service is ready, and from now on repeat that it lives, with a line of figures from `describe`.

        `clock` is the reactor, so the signs of life stop if its loop is stuck.
        """
        if self._address:
            self._describe = describe
            self._loop = LoopingCall(self._tick)
            self._loop.clock = clock
            self._tell("READY=1")
            self._loop.start(self._interval, now=False)

    def reload(self, work: Callable[[], Deferred[Any]]) -> Deferred[Any]:
        """Do `work`, and tell that the service reloads until the returned Deferred fires.

        Before the service is ready, nothing is told.
        """
        if not self._state:
            return work()
        # notify-reload (systemd 253) compares this time with that of its signal. Both are CLOCK_MONOTONIC on Linux.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        return maybeDeferred(work).addBoth(self._reloaded)

    def _reloaded(self, result: object) -> object:
        self._tick()
        return result

    def stopping(self, seconds: float) -> None:
        """Tell that the service ends, and that this may take `seconds`, even if TimeoutStopSec is less."""
        self._tell("STOPPING=1", f"EXTEND_TIMEOUT_USEC={round((seconds + STOP_MARGIN) * 1e6)}")

    def stop(self) -> None:
        """Tell nothing more."""
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
        # The socket is not connected: systemd makes a new one at that path when it executes itself again.
        if self._address and lines:
            with suppress(OSError):
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                self._socket.sendto("\n".join(lines).encode(), self._address)


def take(environment: MutableMapping[str, str]) -> Notifier:
    """Return the notifier that the environment asks for, and remove the variables that are for this process alone."""
    values = {name: environment.pop(name, "") for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")}
    # Twisted reads these at its import, and removes those that it has used (twisted/python/systemd.py).
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    is_watched = values["WATCHDOG_USEC"].isdecimal() and values["WATCHDOG_PID"] in ("", str(os.getpid()))
    return Notifier(values["NOTIFY_SOCKET"], int(values["WATCHDOG_USEC"]) / 1e6 if is_watched else 0.0)

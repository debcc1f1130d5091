"""Endpoints taken apart, and those for listening sockets that other processes made or share.

Knows endpoints, the ports that come of them, and what systemd passes. Must never know a connection.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from twisted.internet import endpoints
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, _SystemdParser
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.unix import Port as UnixPort
from twisted.python.systemd import ListenFDs

FIRST_ENVIRONMENT = Path("/proc/self/environ")
"""The environment that this process was started with, whatever has been taken out of it since; only Linux has it."""

UNNAMED = "unknown"
"""systemd's own name for a descriptor without one (sd_listen_fds(3))."""


def endpoint_arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of an endpoint string, those without a name and those with, after unquoting; the first is the prefix."""
    arguments, named = endpoints._parse(text)
    return arguments, named


def passed_descriptors() -> list[int]:
    """Return the descriptors of what systemd passed, which `systemd:` endpoints find from now on, also those without names.

    Twisted takes the environment variables as it is imported, and forgets descriptors that have not as many names. But names are optional
    (sd_listen_fds(3)), and systemd-socket-activate has none unless it is told some.
    """
    if not _SystemdParser._sddaemon.inheritedDescriptors():
        with suppress(OSError):
            _SystemdParser._sddaemon = _unnamed(FIRST_ENVIRONMENT.read_bytes())
    return _SystemdParser._sddaemon.inheritedDescriptors()


def _unnamed(environment: bytes) -> ListenFDs:
    """Return what is passed by these environment variables (each ends in a NUL), all by the same name, as are those of one unit."""
    variables = dict(variable.split("=", 1) for variable in os.fsdecode(environment).split("\0") if "=" in variable)
    with suppress(ValueError):  # Twisted tells by itself that there is no number
        variables["LISTEN_FDNAMES"] = ":".join([UNNAMED] * int(variables.get("LISTEN_FDS", "")))
    return ListenFDs.fromEnvironment(variables)


def adopted_descriptor(endpoint: object) -> int | None:
    """Return the descriptor of a `systemd:` endpoint, or None for another."""
    return endpoint.fileno if isinstance(endpoint, AdoptedStreamServerEndpoint) else None


class _AdoptedUnixPort(UnixPort):
    """Leaves the socket to who made it, who goes on to listen there. Twisted would shut it down in the end, which ends it for all that
    have it, and remove its path; at the start it would set the path's mode, which takes its owner."""

    # As Twisted has it for an adopted TCP socket.
    _shouldShutdown = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # An abstract name, by its NUL, which Twisted leaves alone; the address itself is asked of the socket.
        self._bindPath = b"\0" + self._bindPath


class _UnixAdopter:
    """Stands where an adopted endpoint has the reactor."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def adoptStreamPort(self, fileno: int, _: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen on a Unix socket that is there."""
        port = _AdoptedUnixPort._fromListeningDescriptor(self._reactor, fileno, factory)
        port.startListening()
        return cast(IListeningPort, port)


def leave_path(endpoint: object) -> None:
    """Let a `systemd:` endpoint for a Unix socket leave its path alone; another is as it was."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == socket.AF_UNIX:
        endpoint.reactor = _UnixAdopter(endpoint.reactor)


def adopt(reactor: Any, descriptor: int) -> IStreamServerEndpoint:
    """Return an endpoint for a listening socket that another process made and goes on to listen on; `descriptor` is closed."""
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        return cast(IStreamServerEndpoint, AdoptedStreamServerEndpoint(reactor, descriptor, passed.family))


def hold(port: IListeningPort) -> socket.socket:
    """Accept nothing at `port`, which other processes are to do, and return its socket; raises `ValueError` when there is none.

    In the end it is only closed: Twisted would shut it down, which ends it for all that have it.
    """
    held: Any = port
    if not isinstance(getattr(held, "socket", None), socket.socket):
        raise ValueError("is no socket that workers could share")
    held.stopReading()
    held._shouldShutdown = False
    return cast(socket.socket, held.socket)

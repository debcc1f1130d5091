"""Endpoints taken apart, and those for listening sockets that other processes made or share.

Knows endpoints, the ports that come of them, and what systemd passes. Must never know a connection.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress
from errno import EEXIST
from pathlib import Path
from typing import Any, cast

from twisted.internet import endpoints
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.unix import Port as UnixPort
from twisted.python.failure import Failure
from twisted.python.systemd import ListenFDs

FIRST_ENVIRONMENT = Path("/proc/self/environ")
"""The environment that this process was started with, whatever has been taken out of it since; only Linux has it."""

UNNAMED = "unknown"
"""systemd's own name for a descriptor without one (sd_listen_fds(3))."""


def endpoint_arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the arguments of an endpoint string, those without a name and those with, after unquoting; the first is
    the prefix."""
    arguments, named = endpoints._parse(text)
    return arguments, named


def passed_descriptors() -> list[int]:
    """Return the descriptors of what systemd passed, which `systemd:` endpoints find from now on, also those without
    names.

    Twisted takes the environment variables as it is imported, and forgets descriptors that have not as many names. But
    names are optional (sd_listen_fds(3)), and systemd-socket-activate has none unless it is told some.
    """
    if not endpoints._SystemdParser._sddaemon.inheritedDescriptors():
        with suppress(OSError):
            endpoints._SystemdParser._sddaemon = _unnamed(FIRST_ENVIRONMENT.read_bytes())
    return endpoints._SystemdParser._sddaemon.inheritedDescriptors()


def _unnamed(environment: bytes) -> ListenFDs:
    """Return what is passed by these environment variables (each ends in a NUL), all by the same name, as are those of
    one unit."""
    variables = dict(variable.split("=", 1) for variable in os.fsdecode(environment).split("\0") if "=" in variable)
    with suppress(ValueError):  # Twisted tells by itself that there is no number
        variables["LISTEN_FDNAMES"] = ":".join([UNNAMED] * int(variables.get("LISTEN_FDS", "")))
    return ListenFDs.fromEnvironment(variables)


def adopted_descriptor(endpoint: object) -> int | None:
    """Return the descriptor of a `systemd:` endpoint, or None for another."""
    return endpoint.fileno if isinstance(endpoint, AdoptedStreamServerEndpoint) else None


class _BothFamilies:
    """Takes the reactor's place in a `tcp:` endpoint without an interface."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        """Listen on one socket for IPv6 and IPv4, or on one for IPv4 where the host has no IPv6; raises `OSError`."""
        if not socket.has_dualstack_ipv6():
            return cast(IListeningPort, self._reactor.listenTCP(port, factory, backlog=backlog, interface=interface))
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Twisted leaves it to the system whether IPv4 is served, too (on Linux to net.ipv6.bindv6only).
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", port))
            made.listen(backlog)
            return cast(IListeningPort, self._reactor.adoptStreamPort(made.fileno(), socket.AF_INET6, factory))


def serve_both_families(endpoint: object) -> None:
    """Let a `tcp:` endpoint without an interface serve IPv6 beside IPv4; another is as it was."""
    if isinstance(endpoint, TCP4ServerEndpoint) and not endpoint._interface:
        endpoint._reactor = _BothFamilies(endpoint._reactor)


def serves_both_families(port: IListeningPort) -> bool:
    """Tell whether `port` serves IPv4 at an address of IPv6 (RFC 3493 section 3.7)."""
    found = getattr(port, "socket", None)
    if not isinstance(found, socket.socket) or found.family != socket.AF_INET6 or found.getsockname()[0] != "::":
        return False
    return not found.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


class _QuietUnixPort(UnixPort):
    """Says nothing at its end. Twisted would write the path to the log, which has a NUL before it here, where it is
    left alone."""

    def _leave_path(self) -> None:
        # An abstract name, by its NUL, which Twisted doesn't remove; the address itself is asked of the socket.
        self._bindPath = b"\0" + self._bindPath

    def _logConnectionLostMsg(self) -> None:
        pass


class _AdoptedUnixPort(_QuietUnixPort):
    """Leaves the socket to who made it, who goes on to listen there. Twisted would shut it down in the end, which ends
    it for all that have it, and remove its path; at the start it would set the path's mode, which takes its owner."""

    # As Twisted has it for an adopted TCP socket.
    _shouldShutdown = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._leave_path()


class _UnixAdopter:
    """Takes the reactor's place in an adopted endpoint."""

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


class _OwnUnixPort(_QuietUnixPort):
    """Takes over a path where nobody accepts any more, and in the end removes the path only if it still leads to this
    socket.

    Twisted's own has a lock beside the path, with the process id of its owner. In a container that is 1: a daemon that
    was killed would find its own id there, take itself for another that lives, and never start again.
    """

    _own: tuple[int, int] | None = None

    def startListening(self) -> None:
        """Listen; raises `OSError` or `CannotListenError`."""
        # bind(2) would say that the address is in use, and have the operator look for a program.
        if os.path.lexists(self._bindPath) and not stat.S_ISSOCK(os.lstat(self._bindPath).st_mode):
            raise FileExistsError(EEXIST, "there is something at that path that is no socket")
        if _is_abandoned(self._bindPath):
            os.remove(self._bindPath)
        super().startListening()
        self._own = _identify(self._bindPath)

    def remove_path(self) -> None:
        """Remove the path, unless it leads elsewhere by now; raises `OSError`."""
        path, own, self._own = self._bindPath, self._own, None
        self._leave_path()
        if own is not None and own == _identify(path):
            os.remove(path)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Listen no more, also where the path can't be removed, which is an `OSError`."""
        try:
            self.remove_path()
        finally:
            super().connectionLost(reason)


def _is_abandoned(path: bytes) -> bool:
    """Tell whether nobody accepts from `path`, where there is a socket or nothing."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:  # there is nothing at the path, or a server whose backlog is full
        pass
    return False


def _identify(path: bytes) -> tuple[int, int] | None:
    """Return what tells a file from others, whatever their paths; None: there is none."""
    with suppress(OSError):
        found = os.lstat(path)
        return found.st_dev, found.st_ino
    return None


class _UnixListener:
    """Takes the reactor's place in a `unix:` endpoint."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenUNIX(
        self,
        address: str,
        factory: IProtocolFactory,
        backlog: int,
        mode: int,
        wantPID: bool,  # noqa: ARG002
    ) -> IListeningPort:
        """Listen on a Unix socket, without Twisted's lock, which `wantPID` asks for: the signature is the reactor's."""
        port = _OwnUnixPort(os.fsencode(address), factory, backlog, mode, self._reactor)
        port.startListening()
        return cast(IListeningPort, port)


def take_path(endpoint: object) -> None:
    """Let a `unix:` endpoint take over a path where nobody accepts any more; another is as it was."""
    if isinstance(endpoint, UNIXServerEndpoint):
        endpoint._reactor = _UnixListener(endpoint._reactor)


def abandon(port: IListeningPort) -> None:
    """Remove the path of a `unix:` endpoint's port at once: after a start that failed the reactor, which would do it,
    never runs."""
    if isinstance(port, _OwnUnixPort):
        port.remove_path()


def adopt(reactor: Any, descriptor: int) -> IStreamServerEndpoint:
    """Return an endpoint for a listening socket that another process made and goes on to listen on; `descriptor` is
    closed."""
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        return cast(IStreamServerEndpoint, AdoptedStreamServerEndpoint(reactor, descriptor, passed.family))


def hold(port: IListeningPort) -> socket.socket:
    """Accept nothing at `port`, which other processes are to do, and return its socket; raises `ValueError` when there
    is none.

    In the end it is only closed: Twisted would shut it down, which ends it for all that have it.
    """
    held: Any = port
    if not isinstance(getattr(held, "socket", None), socket.socket):
        raise ValueError("is no socket that workers could share")
    held.stopReading()
    held._shouldShutdown = False
    return cast(socket.socket, held.socket)

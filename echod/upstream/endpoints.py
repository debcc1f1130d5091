"""What echod changes in Twisted's endpoints, and endpoints for listening sockets that other processes made or share.

Knows endpoints, the ports that they make, and what systemd passes. Must never know a connection.
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
from twisted.internet.endpoints import (
    AdoptedStreamServerEndpoint,
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    UNIXServerEndpoint,
)
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.unix import Port as UnixPort
from twisted.python.failure import Failure
from twisted.python.systemd import ListenFDs

FIRST_ENVIRONMENT = Path("/proc/self/environ")
"""The environment that this process was started with, also variables that were removed since. Only Linux has it."""

HIGHEST_PORT = 65535

UNNAMED = "unknown"
"""systemd's own name for a descriptor without a name (sd_listen_fds(3))."""


def endpoint_arguments(text: str) -> tuple[list[str], dict[str, str]]:
    """Return the unquoted arguments of an endpoint string: those without a name and those with one. The first argument
    is the prefix."""
    arguments, named = endpoints._parse(text)
    return arguments, named


def passed_descriptors() -> list[int]:
    """Return the descriptors that systemd passed, and make `systemd:` endpoints find all of them from now on.

    Twisted reads the environment variables when it is imported, and forgets the descriptors unless there are as many
    names. But names are optional (sd_listen_fds(3)), and systemd-socket-activate passes none by default.
    """
    if not endpoints._SystemdParser._sddaemon.inheritedDescriptors():
        with suppress(OSError):
            endpoints._SystemdParser._sddaemon = _unnamed(FIRST_ENVIRONMENT.read_bytes())
    return endpoints._SystemdParser._sddaemon.inheritedDescriptors()


def _unnamed(environment: bytes) -> ListenFDs:
    """Return the descriptors that these environment variables pass, all with the same name, as if from one unit.

    Each variable in `environment` ends with a NUL.
    """
    variables = dict(variable.split("=", 1) for variable in os.fsdecode(environment).split("\0") if "=" in variable)
    with suppress(ValueError):  # Twisted itself reports that there is no number
        variables["LISTEN_FDNAMES"] = ":".join([UNNAMED] * int(variables.get("LISTEN_FDS", "")))
    return ListenFDs.fromEnvironment(variables)


def check_port(endpoint: object) -> None:
    """Raise `ValueError` for a TCP endpoint whose port no address can have. Twisted notices only when it listens."""
    if isinstance(endpoint, (TCP4ServerEndpoint, TCP6ServerEndpoint)) and not 0 <= endpoint._port <= HIGHEST_PORT:
        raise ValueError(f"{endpoint._port} is not a port from 0 to {HIGHEST_PORT}")


def adopted_descriptor(endpoint: object) -> int | None:
    """Return the descriptor of a `systemd:` endpoint; None for any other endpoint."""
    return endpoint.fileno if isinstance(endpoint, AdoptedStreamServerEndpoint) else None


class _BothFamilies:
    """Takes the reactor's place in a `tcp:` endpoint without an interface."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int, interface: str) -> IListeningPort:
        """Listen on one socket for IPv6 and IPv4, or only for IPv4 if the host has no IPv6. Raises `OSError`."""
        if not socket.has_dualstack_ipv6():
            return cast(IListeningPort, self._reactor.listenTCP(port, factory, backlog=backlog, interface=interface))
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Twisted lets the system decide whether IPv4 is served, too (on Linux net.ipv6.bindv6only decides).
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            made.bind(("::", port))
            made.listen(backlog)
            return cast(IListeningPort, self._reactor.adoptStreamPort(made.fileno(), socket.AF_INET6, factory))


def serve_both_families(endpoint: object) -> None:
    """Make a `tcp:` endpoint without an interface serve IPv6 and IPv4. Any other endpoint is left alone."""
    if isinstance(endpoint, TCP4ServerEndpoint) and not endpoint._interface:
        endpoint._reactor = _BothFamilies(endpoint._reactor)


def serves_both_families(port: IListeningPort) -> bool:
    """Tell whether `port` serves IPv4 on an IPv6 socket (RFC 3493 section 3.7)."""
    found = getattr(port, "socket", None)
    if not isinstance(found, socket.socket) or found.family != socket.AF_INET6 or found.getsockname()[0] != "::":
        return False
    return not found.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


class _QuietUnixPort(UnixPort):
    """Logs nothing when it ends. Twisted would log the path, which begins with a NUL if the port is to leave it."""

    def _leave_path(self) -> None:
        # With a NUL in front the path looks like an abstract name, and Twisted does not remove one. Only the socket
        # is asked for its address.
        self._bindPath = b"\0" + self._bindPath

    def _logConnectionLostMsg(self) -> None:
        pass


class _AdoptedUnixPort(_QuietUnixPort):
    """Leaves the socket alone, because its maker goes on listening on it.

    At the end Twisted would shut the socket down, which ends it for every process that has it, and remove its path. At
    the start Twisted would set the mode of the path, which only the owner may do.
    """

    # Twisted does the same for an adopted TCP socket.
    _shouldShutdown = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._leave_path()


class _UnixAdopter:
    """Takes the reactor's place in an adopted endpoint."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def adoptStreamPort(self, fileno: int, _: int, factory: IProtocolFactory) -> IListeningPort:
        """Listen on an existing Unix socket."""
        port = _AdoptedUnixPort._fromListeningDescriptor(self._reactor, fileno, factory)
        port.startListening()
        return cast(IListeningPort, port)


def leave_path(endpoint: object) -> None:
    """Make a `systemd:` endpoint for a Unix socket leave its path alone. Any other endpoint is left as it is."""
    if isinstance(endpoint, AdoptedStreamServerEndpoint) and endpoint.addressFamily == socket.AF_UNIX:
        endpoint.reactor = _UnixAdopter(endpoint.reactor)


class _OwnUnixPort(_QuietUnixPort):
    """Takes over a path on which nobody accepts any more. At its end it removes the path if that is still its own.

    Twisted's own port has a lock beside the path, with the process id of the owner. In a container that id is 1. So a
    daemon that was killed would find its own id in the lock, take itself for another live daemon, and never start.
    """

    _own: tuple[int, int] | None = None

    def startListening(self) -> None:
        """Listen. Raises `OSError` or `CannotListenError`."""
        # bind(2) would say that the address is in use, and the operator would look for a program.
        if os.path.lexists(self._bindPath) and not stat.S_ISSOCK(os.lstat(self._bindPath).st_mode):
            raise FileExistsError(EEXIST, "the path exists and is not a socket")
        if _is_abandoned(self._bindPath):
            os.remove(self._bindPath)
        super().startListening()
        self._own = _identify(self._bindPath)

    def remove_path(self) -> None:
        """Remove the path, unless it leads to another file by now. Raises `OSError`."""
        path, own, self._own = self._bindPath, self._own, None
        self._leave_path()
        if own is not None and own == _identify(path):
            os.remove(path)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop listening, even if the path can't be removed. Raises `OSError` then."""
        try:
            self.remove_path()
        finally:
            super().connectionLost(reason)


def _is_abandoned(path: bytes) -> bool:
    """Tell whether nobody accepts on `path`, which is a socket or does not exist."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            client.connect(path)
    except ConnectionRefusedError:
        return True
    except OSError:  # the path does not exist, or the backlog of its server is full
        pass
    return False


def _identify(path: bytes) -> tuple[int, int] | None:
    """Return what identifies a file, whatever its path; None if there is no file."""
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
        """Listen on a Unix socket. `wantPID` would ask for Twisted's lock; the signature is the reactor's."""
        port = _OwnUnixPort(os.fsencode(address), factory, backlog, mode, self._reactor)
        port.startListening()
        return cast(IListeningPort, port)


def take_path(endpoint: object) -> None:
    """Make a `unix:` endpoint take over a path on which nobody accepts any more. Any other endpoint is left alone."""
    if isinstance(endpoint, UNIXServerEndpoint):
        endpoint._reactor = _UnixListener(endpoint._reactor)


def abandon(port: IListeningPort) -> None:
    """Remove the path of a `unix:` endpoint's port at once.

    The reactor would do that at its end, but it never runs after a failed start.
    """
    if isinstance(port, _OwnUnixPort):
        port.remove_path()


def adopt(reactor: Any, descriptor: int) -> IStreamServerEndpoint:
    """Return an endpoint for a listening socket that another process made and still listens on.

    The endpoint takes over `descriptor` and closes it.
    """
    with socket.socket(fileno=os.dup(descriptor)) as passed:
        return cast(IStreamServerEndpoint, AdoptedStreamServerEndpoint(reactor, descriptor, passed.family))


def hold(port: IListeningPort) -> socket.socket:
    """Accept nothing on `port`, because other processes will, and return its socket.

    Raises `ValueError` if `port` has no socket. At the end the socket is only closed: Twisted would shut it down, which
    ends it for every process that has it.
    """
    held: Any = port
    if not isinstance(getattr(held, "socket", None), socket.socket):
        raise ValueError("is not a socket that workers could share")
    held.stopReading()
    held._shouldShutdown = False
    return cast(socket.socket, held.socket)

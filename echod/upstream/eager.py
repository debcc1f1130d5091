"""Reads a new connection once before the reactor knows of it, because the request has mostly arrived by then.

Somebody else may have accepted the connection and read from it: then `adopt` makes its transport.

Knows how a port of Twisted accepts, and how the transport of a connection begins to read. Must never know what the
bytes mean.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any, cast

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.tcp import Port, Server
from twisted.internet.unix import Port as UnixPort
from twisted.internet.unix import Server as UnixServer

from echod.upstream import names


class _Eager:
    """A socket that the reactor is told of only after a first read, which mostly finds the request head.

    A client sends the head right after its part of the TCP handshake. Without this class the reactor would start to
    watch the socket, report that there is something to read, and stop watching it because it is leased: 7 µs.
    """

    _is_watched: bool | None = None
    """None: the reactor is to watch the socket after the first read. False: it is not."""

    read_already: bytes | None = None
    """What was read before the transport was made, which takes the place of the first read. None: nobody has read."""

    bufferSize: int
    protocol: Any
    socket: socket.socket

    def startReading(self) -> None:
        """Make the reactor watch the socket, now or after the first read. Twisted's `__init__` makes the first call."""
        if self._is_watched:
            cast(Any, super()).startReading()
        else:
            self._is_watched = None

    def stopReading(self) -> None:
        """Make the reactor stop watching the socket, or not begin to."""
        if self._is_watched:
            cast(Any, super()).stopReading()
        else:
            self._is_watched = False

    def read_first(self) -> None:
        """Read what has already arrived. If there is an end of file or an error, the reactor will find it."""
        octets = b""
        if self._is_watched is None:  # otherwise the connection may have been aborted
            octets = self._read() if self.read_already is None else self.read_already
            self.read_already = None
        try:
            if octets:
                self.protocol.dataReceived(octets)
        finally:  # Twisted logs an exception and keeps the connection
            is_wanted, self._is_watched = self._is_watched is None, True
            if is_wanted:
                self.startReading()

    def _read(self) -> bytes:
        with suppress(OSError):
            return self.socket.recv(self.bufferSize)
        return b""


class _EagerServer(_Eager, Server):
    """A TCP socket."""


class _EagerUnixServer(_Eager, UnixServer):
    """A Unix socket."""


def _no_address(_: object) -> None:
    """Build no address object, because `buildProtocol` does not use it. That saves a microsecond."""


def make_eager(port: Any, factory: IProtocolFactory) -> None:
    """Let `read_first` read each connection of `port` at once, if nothing is between its sockets and `factory`.

    If a private name that this needs is gone (`names.EAGER`), the port stays as it is.
    """
    if type(port) is Port and getattr(port, "factory", None) is factory and not names.missing(names.EAGER):
        eager = cast(Any, port)
        eager.transport, eager._buildAddr = _EagerServer, _no_address


def can_adopt(port: Any, factory: object) -> bool:
    """Tell whether `adopt` can make connections of `port`: nothing must be between its sockets and `factory`."""
    is_plain = type(port) is Port or isinstance(port, UnixPort)
    return is_plain and getattr(port, "factory", None) is factory and not names.missing(names.EAGER)


def peer_of(descriptor: int) -> tuple[str, int] | None:
    """Return the IP address and port at the other end of a connection; None for a Unix socket, and if it is gone."""
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as made:
        return None if made.family == socket.AF_UNIX else _name_of(made)[:2]
    return None


def _name_of(made: socket.socket) -> Any:
    """Return the address of the other end as Twisted has it. Raises `OSError` if it is gone."""
    name: Any = made.getpeername()
    if made.family != socket.AF_INET6:
        return name
    return (socket.getnameinfo(name, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)[0], *name[1:])  # with its scope


def adopt(port: Any, descriptor: int, octets: bytes) -> Any:
    """Make a connection of `port` that somebody else has accepted as `descriptor`, and return its protocol.

    `octets` were read from it. Its `read_first` takes them, and reads no more. Raises `OSError` if the other end is
    gone already; then the descriptor is closed.
    """
    made = socket.socket(fileno=descriptor)
    try:
        made.setblocking(False)
        address = _name_of(made)
    except OSError:
        made.close()
        raise
    protocol = port.factory.buildProtocol(None)
    kind = _EagerUnixServer if made.family == socket.AF_UNIX else _EagerServer
    number, port.sessionno = port.sessionno, port.sessionno + 1
    transport = kind(made, protocol, address, port, number, port.reactor)
    transport.read_already = octets
    protocol.makeConnection(transport)
    return protocol


def read_first(transport: Any) -> None:
    """Read what has arrived on a new connection. Call this at the end of `connectionMade`."""
    if isinstance(transport, _Eager):
        transport.read_first()

"""A first read before the reactor is told of a new connection, which mostly brings its request along.

Knows how a port of Twisted's accepts, and how the transport of a connection begins to read. Must never know what the
octets say.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.tcp import Port, Server

from echod.upstream import names


class _EagerServer(Server):
    """A socket that the reactor is told of only after a first read, which mostly finds the request head.

    A client sends it right behind its part of the TCP handshake. For the reactor to watch the socket, to say that there
    is something, and to watch it no longer because it is leased, is 7 µs.
    """

    _is_watched: bool | None = None
    """None: to be watched after the first read; False: not to be."""

    def startReading(self) -> None:
        """Have the reactor watch the socket, or after the first read; the first to call is Twisted's `__init__`."""
        if self._is_watched:
            cast(Any, super()).startReading()
        else:
            self._is_watched = None

    def stopReading(self) -> None:
        """Undo that."""
        if self._is_watched:
            cast(Any, super()).stopReading()
        else:
            self._is_watched = False

    def read_first(self) -> None:
        """Read what has come already. An end, or an error, is the reactor's to find."""
        octets = b""
        if self._is_watched is None:  # it may have been aborted already
            with suppress(OSError):
                octets = self.socket.recv(self.bufferSize)
        try:
            if octets:
                self.protocol.dataReceived(octets)
        finally:  # an error is logged by Twisted, which keeps the connection
            is_wanted, self._is_watched = self._is_watched is None, True
            if is_wanted:
                self.startReading()


def _no_address(_: object) -> None:
    """Build no address object for `buildProtocol`, which makes nothing of it: a microsecond."""


def make_eager(port: Any, factory: IProtocolFactory) -> None:
    """Have each connection that `port` accepts read at once by `read_first`, if there is nothing between its socket and
    `factory`.

    Where a name that this takes is gone (`names.EAGER`), the port stays as it is.
    """
    if type(port) is Port and getattr(port, "factory", None) is factory and not names.missing(names.EAGER):
        eager = cast(Any, port)
        eager.transport, eager._buildAddr = _EagerServer, _no_address


def read_first(transport: Any) -> None:
    """Read what a new connection has brought along; to be called at the end of `connectionMade`."""
    if isinstance(transport, _EagerServer):
        transport.read_first()

"""Makes the transport of a connection that somebody else has accepted at a port of Twisted's, as the port would.

Knows how a port of Twisted makes a connection. Must never know what the bytes mean.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from twisted.internet.tcp import Port
from twisted.internet.unix import Port as UnixPort

from echod.upstream import names


def can_adopt(port: Any, factory: object) -> bool:
    """Tell whether `adopt` can make connections of `port`: nothing must be between its sockets and `factory`."""
    is_plain = type(port) is Port or isinstance(port, UnixPort)
    return is_plain and getattr(port, "factory", None) is factory and not names.missing(names.ADOPTING)


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

    `octets` were read from it. Raises `OSError` if the other end is gone already; then the descriptor is closed. So it
    is if memory is short.
    """
    try:
        made = socket.socket(fileno=descriptor)
    except MemoryError:
        os.close(descriptor)
        raise
    try:
        made.setblocking(False)
        address = _name_of(made)
    except OSError:
        made.close()
        raise
    protocol = port.factory.buildProtocol(None)
    number, port.sessionno = port.sessionno, port.sessionno + 1
    transport = port.transport(made, protocol, address, port, number, port.reactor)
    protocol.makeConnection(transport)
    if octets and not transport._aborting:
        protocol.dataReceived(octets)
    return protocol

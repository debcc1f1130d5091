"""The layers between a connection and the kernel: how many bytes wait in them, and how to write past the waiting.

Knows the buffers of Twisted's transports, including TLS, and what the kernel tells about a socket. Must never know what
the written bytes mean.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import IProtocol, ISSLTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

RECORD_SIZE = 2**14
"""The most bytes of payload that one TLS record holds (RFC 8446 section 5.1)."""

SEAL_SIZE = 16 * RECORD_SIZE
"""Bytes that are encrypted before the kernel gets them. Each piece costs a system call. A whole message would be in
memory four times: as it is, as records, with these joined, and what of it the kernel does not take."""


def layers(transport: ITransport) -> tuple[Any, ...]:
    """Return `transport` and the layers that it wraps (TLS, the PROXY protocol), down to the socket's own transport.

    The layers of a connection never change.
    """
    found: list[Any] = [transport]
    while not isinstance(found[-1], Connection) and getattr(found[-1], "transport", None) is not None:
        found.append(found[-1].transport)
    return tuple(found)


def is_plain(layers: Sequence[Any]) -> bool:
    """Tell whether there is only the socket, so that its bytes are those that the connection reads and writes."""
    return len(layers) == 1 and isinstance(layers[0], Connection)


def is_tls(layers: Sequence[Any]) -> bool:
    """Tell whether TLS is on the socket and nothing else is."""
    return len(layers) == 2 and isinstance(layers[0], TLSMemoryBIOProtocol) and isinstance(layers[1], Connection)


def tls_of(layers: Sequence[Any]) -> Any:
    """Return the TLS layer, wherever it is among the layers; None if there is none."""
    for layer in layers:
        if isinstance(layer, TLSMemoryBIOProtocol):
            return layer
    return None


def hand_over(layers: Sequence[Any], protocol: IProtocol) -> None:
    """Connect `protocol` in place of the protocol that was connected. Twisted has no function for this; Autobahn's
    WebSocketResource does the same."""
    top = layers[0]
    if isinstance(top, ProtocolWrapper):
        top.wrappedProtocol = protocol
    else:
        top.protocol = protocol
    protocol.makeConnection(top)


def unsent(layers: Sequence[Any]) -> int:
    """Return how many written bytes the kernel has not taken yet."""
    octets = 0
    for layer in layers:
        if isinstance(layer, Connection):
            octets += len(layer.dataBuffer) - layer.offset + layer._tempDataLen
        elif isinstance(layer, TLSMemoryBIOProtocol) and layer._appSendBuffer:
            octets += sum(map(len, layer._appSendBuffer))
    return octets


def held(layers: Sequence[Any]) -> int:
    """Return how many bytes of memory the unsent bytes take. A buffer stays whole when only its beginning was sent."""
    octets = unsent(layers)
    for layer in layers:
        if isinstance(layer, Connection):
            octets += layer.offset
    return octets


def give_back_sent(layers: Sequence[Any]) -> None:
    """Free what was sent if it is more than half of a buffer, so that less is copied than was sent."""
    connection = layers[-1]
    if isinstance(connection, Connection) and connection.offset > len(connection.dataBuffer) // 2:
        connection.dataBuffer = connection.dataBuffer[connection.offset :]
        connection.offset = 0


def unacknowledged(layers: Sequence[Any]) -> int:
    """Return how many bytes the kernel has taken and the peer's kernel has not confirmed; 0 if that is unknown."""
    return _ioctl(layers[-1], termios.TIOCOUTQ)


def unread(layers: Sequence[Any]) -> int:
    """Return how many bytes wait in the kernel to be read; 0 if that is unknown."""
    return _ioctl(layers[-1], termios.FIONREAD)


def _ioctl(connection: Any, request: int) -> int:
    if isinstance(connection, Connection) and connection.connected:
        with suppress(OSError):
            return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), request, bytes(4)))[0])
    return 0


def write_now(layers: Sequence[Any], octets: bytes) -> None:
    """Write, and pass to the kernel at once what it takes.

    Twisted's own `write` waits for the reactor's next turn. Over TLS it waits one turn more to join small writes; the
    caller of this function has joined them already. A connection must write everything with this function, because
    this function overtakes bytes that wait in Twisted's buffer for small writes.
    """
    top, bottom = layers[0], layers[-1]
    if is_tls(layers):
        start = 0
        while size := _seal_now(top, bottom, octets[start : start + SEAL_SIZE]):
            start += size
        if start < len(octets):
            TLSMemoryBIOProtocol.write(top, octets[start:])
    elif is_plain(layers):
        send_now(bottom, octets)
    elif (tls := tls_of(layers)) is not None:
        # This goes past Twisted's buffer for small writes. `unsent` doesn't know that buffer, so the bytes in it would
        # seem to be sent.
        TLSMemoryBIOProtocol.write(tls, octets)
    elif isinstance(bottom, Connection):
        send_now(bottom, octets)
    else:
        top.write(octets)


def _seal_now(tls: Any, connection: Connection, octets: bytes) -> int:
    """Encrypt, pass the records to the kernel, and return how many bytes were encrypted. Twisted must write the others.

    Others are left during a handshake, after the end, or after an error. Twisted would pass each record of 16 KiB to
    the transport separately, which costs the reactor two system calls in addition to the write.
    """
    records: list[bytes] = []
    size = 0
    if tls._handshakeDone and not (tls._lostTLSConnection or tls.disconnecting or tls._appSendBuffer):
        session = tls.getHandle()
        with suppress(SSL.Error):  # Twisted meets the same error when it writes the rest
            while size < len(octets):
                size += session.send(octets[size : size + RECORD_SIZE])
                records.append(session.bio_read(2 * RECORD_SIZE))
    if records:
        send_now(connection, b"".join(records))
    return size


def send_now(connection: Connection, octets: bytes) -> None:
    """Send bytes that are ready for the wire: the kernel takes what it can, and the transport keeps the rest."""
    sent = 0
    if connection.connected and not connection.dataBuffer and not connection._tempDataLen:
        try:
            sent = connection.socket.send(octets)
        except OSError:  # the call would block, or the write below meets the error again
            sent = 0
    if sent < len(octets):
        connection.write(octets[sent:] if sent else octets)


def close_now(connection: Connection) -> None:
    """Close a socket that has nothing to send. The reactor would do the same in its next turn."""
    connection.connectionLost(connectionDone)


def set_read_size(layers: Sequence[Any], octets: int) -> None:
    """Set how many bytes one read takes, and how many bytes may wait unsent before the producer is paused."""
    if isinstance(layers[-1], Connection):
        layers[-1].bufferSize = octets


def half_close(transport: ITransport) -> None:
    """Send what was written and then a FIN, and go on reading. TLS has no half-close, so it sends a close_notify."""
    if ISSLTransport.providedBy(transport):
        transport.loseConnection()
    else:
        cast(Any, transport).loseWriteConnection()  # a method of IHalfCloseableDescriptor

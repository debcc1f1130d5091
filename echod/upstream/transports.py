"""What is between a connection and the kernel, as layers: what waits in there, and how octets pass it at once.

Knows the buffers of Twisted's transports, TLS among them, and what the kernel tells of a socket. Must never know what
is written.
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import ISSLTransport, ITransport
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOProtocol

RECORD_SIZE = 2**14
"""Octets that one TLS record holds at most (RFC 8446 section 5.1)."""


def layers(transport: ITransport) -> tuple[Any, ...]:
    """Return `transport` and what it wraps (TLS, the PROXY protocol), down to the socket's own; of a connection they
    stay the same."""
    found: list[Any] = [transport]
    while not isinstance(found[-1], Connection) and getattr(found[-1], "transport", None) is not None:
        found.append(found[-1].transport)
    return tuple(found)


def is_plain(layers: Sequence[Any]) -> bool:
    """Tell whether there is nothing but the socket: what is on it is what is read and written."""
    return len(layers) == 1 and isinstance(layers[0], Connection)


def is_tls(layers: Sequence[Any]) -> bool:
    """Tell whether there is TLS on the socket, and nothing else."""
    return len(layers) == 2 and isinstance(layers[0], TLSMemoryBIOProtocol) and isinstance(layers[1], Connection)


def tls_of(layers: Sequence[Any]) -> Any:
    """Return the layer that is TLS, wherever it is; None if there is none."""
    return next((layer for layer in layers if isinstance(layer, TLSMemoryBIOProtocol)), None)


def unsent(layers: Sequence[Any]) -> int:
    """Return the octets written that the kernel has not taken yet."""
    octets = 0
    for layer in layers:
        if isinstance(layer, Connection):
            octets += len(layer.dataBuffer) - layer.offset + layer._tempDataLen
        elif isinstance(layer, TLSMemoryBIOProtocol) and layer._appSendBuffer:
            octets += sum(map(len, layer._appSendBuffer))
    return octets


def held(layers: Sequence[Any]) -> int:
    """Return the octets of memory that what is unsent takes: of a buffer, the begin of which was sent, all is still
    there."""
    return unsent(layers) + sum(layer.offset for layer in layers if isinstance(layer, Connection))


def give_back_sent(layers: Sequence[Any]) -> None:
    """Let go of what was sent, where that is more than half of a buffer: so all that is copied is less than what was
    sent."""
    connection = layers[-1]
    if isinstance(connection, Connection) and connection.offset > len(connection.dataBuffer) // 2:
        connection.dataBuffer = connection.dataBuffer[connection.offset :]
        connection.offset = 0


def unacknowledged(layers: Sequence[Any]) -> int:
    """Return the octets that the kernel has taken but the peer's has not confirmed; 0 where that can't be told."""
    return _ioctl(layers[-1], termios.TIOCOUTQ)


def unread(layers: Sequence[Any]) -> int:
    """Return the octets that wait in the kernel to be read; 0 where that can't be told."""
    return _ioctl(layers[-1], termios.FIONREAD)


def _ioctl(connection: Any, request: int) -> int:
    if isinstance(connection, Connection) and connection.connected:
        with suppress(OSError):
            return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), request, bytes(4)))[0])
    return 0


def write_now(layers: Sequence[Any], octets: bytes) -> None:
    """Write, and let the kernel have at once what it takes.

    Twisted's own `write` waits for the reactor's next turn, and over TLS for one more, in which small writes are put
    together: that is done before this is called. All that a connection writes must come this way, for it overtakes what
    waits in there.
    """
    top, bottom = layers[0], layers[-1]
    if is_tls(layers):
        sealed, rest = _seal(top, octets)
        if sealed:
            send_now(bottom, sealed)
        if rest:
            TLSMemoryBIOProtocol.write(top, rest)
    elif is_plain(layers):
        send_now(bottom, octets)
    elif (tls := tls_of(layers)) is not None:
        # Past Twisted's buffer for small writes, which `unsent` doesn't know: who looks there would take them for sent.
        TLSMemoryBIOProtocol.write(tls, octets)
    elif isinstance(bottom, Connection):
        send_now(bottom, octets)
    else:
        top.write(octets)


def _seal(tls: Any, octets: bytes) -> tuple[bytes, bytes]:
    """Encrypt; return the records, and the octets that are Twisted's to write: during a handshake, after the end, or in
    error.

    Twisted itself hands each record of 16 KiB to the transport by itself, which costs the reactor two system calls
    beside the write.
    """
    records: list[bytes] = []
    start = 0
    if tls._handshakeDone and not (tls._lostTLSConnection or tls.disconnecting or tls._appSendBuffer):
        connection = tls.getHandle()
        with suppress(SSL.Error):  # what it is, Twisted finds out with the rest
            while start < len(octets):
                start += connection.send(octets[start : start + RECORD_SIZE])
                records.append(connection.bio_read(2 * RECORD_SIZE))
    return b"".join(records), octets[start:]


def send_now(connection: Connection, octets: bytes) -> None:
    """Write to the socket's own transport what is ready for the wire: the kernel takes what it can, the transport has
    the rest."""
    sent = 0
    if connection.connected and not connection.dataBuffer and not connection._tempDataLen:
        try:
            sent = connection.socket.send(octets)
        except OSError:  # it would block, or the write below meets the error again
            sent = 0
    if sent < len(octets):
        connection.write(octets[sent:] if sent else octets)


def close_now(connection: Connection) -> None:
    """Close a socket that has nothing to send, as the reactor would in its next turn."""
    connection.connectionLost(connectionDone)


def set_read_size(layers: Sequence[Any], octets: int) -> None:
    """Set how many octets are read at a time, and how many may wait unsent before the producer is paused."""
    if isinstance(layers[-1], Connection):
        layers[-1].bufferSize = octets


def half_close(transport: ITransport) -> None:
    """Send what was written and then a FIN, and go on reading; over TLS, which has no half-close, a close_notify."""
    if ISSLTransport.providedBy(transport):
        transport.loseConnection()
    else:
        cast(Any, transport).loseWriteConnection()  # as IHalfCloseableDescriptor has it

"""What carries a connection: a socket, TLS on a socket, or another stack of Twisted's transports (a PROXY header).

A connection writes to its carrier, pauses it and closes it, and never asks which kind it is. An HTTP/2 stream is a
carrier, too (`http.h2.stream`). Knows Twisted's transports, through `transports` and `tls_sessions`. Must never know
what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IProtocol, ISSLTransport, ITransport

from echod.upstream import tls_sessions, transports
from echod.upstream.tls_sessions import Session


class Carrier:
    """Any stack of Twisted's transports. The pump serves only the two kinds below."""

    __slots__ = ("_layers", "has_session")

    def __init__(self, layers: Sequence[Any]) -> None:
        """`layers`: the transport that a connection was given, and what that transport wraps, down to the socket's."""
        self._layers = layers
        self.has_session = transports.tls_of(layers) is not None
        """Whether a TLS session is between the connection and the socket. Its buffers grow, and can be given back."""

    @property
    def layers(self) -> Sequence[Any]:
        """What the carrier was made with."""
        return self._layers

    def hand_over(self, protocol: IProtocol) -> None:
        """Connect `protocol` in place of the connection that the carrier was made for."""
        transports.hand_over(self._layers, protocol)

    # Facts.

    is_stream = False
    """Whether the carrier is one of several streams of a connection."""

    http_version = "1.1"
    """The version of HTTP over which the opening handshake comes."""

    @property
    def stream_number(self) -> int | None:
        """The number of the stream; None of a carrier that is none."""
        return None

    def describe_http(self) -> dict[str, Any]:
        """Return what `/info` tells of HTTP."""
        return {"version": self.http_version}

    @property
    def descriptor(self) -> int | None:
        """The descriptor of a plain socket, -1 once it is closed; None of any other carrier."""
        return None

    @property
    def peer(self) -> tuple[str, int] | None:
        """The IP address and port at the other end of the socket; None for a Unix socket."""
        address = self._layers[0].getPeer()
        return (address.host, address.port) if hasattr(address, "host") else None

    @property
    def tells_client(self) -> bool:
        """Whether the connection begins with a PROXY header, which tells the client's address."""
        # Only the wrapper of `net.proxy_header` has the attribute, and TLS passes it on.
        return hasattr(self._layers[0], "header_fault")

    @property
    def header_fault(self) -> str | None:
        """What was wrong with the PROXY header, with text from the client in it; None if nothing was."""
        return self._layers[0].header_fault if self.tells_client else None

    @property
    def tls(self) -> Any:
        """The OpenSSL connection that is nearest to the WebSocket; None without TLS."""
        layer: Any = next(filter(ISSLTransport.providedBy, self._layers), None)
        return layer and layer.getHandle()

    @property
    def agreed_protocol(self) -> bytes:
        """The protocol on which both ends agreed with TLS (ALPN, RFC 7301); empty if they did not."""
        connection = self.tls
        return b"" if connection is None else bytes(connection.get_alpn_proto_negotiated())

    # Reading.

    def pause(self) -> None:
        """Stop reading."""
        self._layers[0].pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self._layers[0].resumeProducing()

    def set_read_size(self, octets: int) -> None:
        """Set how many bytes one read takes, and how many bytes may wait unsent before the producer is paused."""
        transports.set_read_size(self._layers, octets)

    @property
    def unread(self) -> int:
        """How many bytes wait in the kernel to be read; 0 if that is unknown."""
        return transports.unread(self._layers)

    # Writing.

    def write(self, octets: bytes) -> None:
        """Write, and pass to the kernel at once what it takes."""
        transports.write_now(self._layers, octets)

    @property
    def unsent(self) -> int:
        """How many written bytes the kernel has not taken yet."""
        return transports.unsent(self._layers)

    @property
    def held(self) -> int:
        """How many bytes of memory the unsent bytes take."""
        return transports.held(self._layers)

    @property
    def unacknowledged(self) -> int:
        """How many bytes the kernel has taken and the peer's kernel has not confirmed; 0 if that is unknown."""
        return transports.unacknowledged(self._layers)

    def give_back_sent(self) -> None:
        """Free the memory of sent bytes if they are more than half of a buffer."""
        transports.give_back_sent(self._layers)

    def register(self, producer: Any) -> None:
        """Let the transport pause and resume `producer`, depending on how the peer takes what is written."""
        self._layers[0].registerProducer(producer, True)

    def unregister(self) -> None:
        """Stop pausing and resuming the producer."""
        self._layers[0].unregisterProducer()

    # The end.

    def half_close(self) -> None:
        """Send what was written and then a FIN, or TLS's close_notify, and go on reading."""
        transports.half_close(self._layers[0])

    def close(self) -> None:
        """Close when everything that was written is sent."""
        self._layers[0].loseConnection()

    def reset(self) -> None:
        """Close at once. Unsent bytes are lost."""
        self._layers[0].abortConnection()

    # What only a stream can do.

    def respond(self, status: int, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer. Over HTTP/1.1 it is written like everything else."""
        raise NotImplementedError

    def send_goaway(self) -> None:
        """Let the connection below serve no new stream, and end with its last one."""
        raise NotImplementedError

    # Lending to the pump.

    def can_be_lent(self, takes_tls: bool) -> bool:  # noqa: ARG002  # the kinds below use it
        """Tell whether the pump can serve this kind of carrier; `takes_tls` says whether it serves TLS."""
        return False

    def loan(self) -> tuple[int, Session | None] | None:
        """Return the socket's descriptor and the TLS session on it; None if they cannot be lent just now."""
        return None

    def flush_session(self) -> None:
        """Write what a TLS session still has to send after its lease."""

    def read_session(self) -> None:
        """Receive what a TLS session still has to deliver after its lease."""

    def renew_buffers(self) -> bool:
        """Free the memory that a TLS session's buffers have grown to, and tell whether they are now as small as
        possible."""
        return tls_sessions.renew_buffers(self._layers)


class _Socket(Carrier):
    """A socket with nothing on it."""

    __slots__ = ()

    @property
    def descriptor(self) -> int | None:
        """The descriptor of a plain socket, -1 once it is closed; None of any other carrier."""
        return int(self._layers[0].fileno())

    def write(self, octets: bytes) -> None:
        """Write, and pass to the kernel at once what it takes."""
        transports.send_now(self._layers[0], octets)

    def close(self) -> None:
        """Close when everything that was written is sent, which is mostly now. Twisted would wait for the next turn."""
        if self.unsent:
            super().close()
        else:
            transports.close_now(self._layers[0])

    def can_be_lent(self, takes_tls: bool) -> bool:  # noqa: ARG002  # only `_Secure` needs it
        """Return True, because the pump serves every plain socket."""
        return True

    def loan(self) -> tuple[int, Session | None] | None:
        """Return the descriptor."""
        return self._layers[0].fileno(), None


class _Secure(Carrier):
    """TLS on a socket, and nothing else."""

    __slots__ = ()

    def can_be_lent(self, takes_tls: bool) -> bool:
        """Tell whether the pump serves TLS."""
        return takes_tls

    def loan(self) -> tuple[int, Session | None] | None:
        """Return the descriptor and the session, or None while a handshake, an end or unsent bytes are pending."""
        session = tls_sessions.session(self._layers)
        return None if session is None else (self._layers[1].fileno(), session)

    def flush_session(self) -> None:
        """Write what the session still has to send."""
        tls_sessions.flush_session(self._layers)

    def read_session(self) -> None:
        """Receive what the session still has to deliver."""
        tls_sessions.read_session(self._layers)


NO_CARRIER = Carrier(())
"""The carrier of a connection that is not made yet or is lost. It holds nothing."""


def carrier_of(transport: ITransport | Carrier) -> Carrier:
    """Return the carrier that writes to `transport`, which may be a carrier itself."""
    if isinstance(transport, Carrier):
        return transport
    layers = transports.layers(transport)
    kind = _Socket if transports.is_plain(layers) else _Secure if transports.is_tls(layers) else Carrier
    return kind(layers)

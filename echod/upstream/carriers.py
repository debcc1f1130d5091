"""What carries a connection: a socket, TLS on a socket, or what else Twisted puts on one (a PROXY header).

A connection writes to its carrier, pauses it and closes it, and never asks what it is. An HTTP/2 stream can be a
carrier, too. Knows Twisted's transports, through `transports` and `tls_sessions`. Must never know what is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import ISSLTransport, ITransport

from echod.upstream import eager, tls_sessions, transports
from echod.upstream.tls_sessions import Session


class Carrier:
    """Any stack of Twisted's transports. The pump serves the two kinds below, and no other."""

    __slots__ = ("_layers", "has_session")

    def __init__(self, layers: Sequence[Any]) -> None:
        """`layers`: the transport that a connection was given, and what that transport wraps, down to the socket's."""
        self._layers = layers
        self.has_session = transports.tls_of(layers) is not None
        """Whether a TLS session stands between the connection and the socket. Its buffers grow and are given back."""

    # Facts.

    @property
    def peer(self) -> Any:
        """The address of the other end of the socket, as Twisted has it."""
        return self._layers[0].getPeer()

    @property
    def tells_client(self) -> bool:
        """Whether the connection begins with a PROXY header, which tells the client's address."""
        # The wrapper of `net.proxy_header` alone has the attribute. TLS hands it on.
        return hasattr(self._layers[0], "header_fault")

    @property
    def header_fault(self) -> str | None:
        """What was wrong with the PROXY header, in the client's words; None without a fault."""
        return self._layers[0].header_fault if self.tells_client else None

    @property
    def tls(self) -> Any:
        """The OpenSSL connection that is nearest to the WebSocket; None without TLS."""
        layer: Any = next(filter(ISSLTransport.providedBy, self._layers), None)
        return layer and layer.getHandle()

    # Reading.

    def read_first(self) -> None:
        """Read what a new connection has brought along, before the reactor is told of it."""
        eager.read_first(self._layers[0])

    def pause(self) -> None:
        """Read no more."""
        self._layers[0].pauseProducing()

    def resume(self) -> None:
        """Read again."""
        self._layers[0].resumeProducing()

    def set_read_size(self, octets: int) -> None:
        """Set how much is read at a time, and how much may wait unsent before the producer is paused."""
        transports.set_read_size(self._layers, octets)

    @property
    def unread(self) -> int:
        """Octets that wait in the kernel to be read; 0 if that cannot be told."""
        return transports.unread(self._layers)

    # Writing.

    def write(self, octets: bytes) -> None:
        """Write, and hand the kernel at once what it takes."""
        transports.write_now(self._layers, octets)

    @property
    def unsent(self) -> int:
        """Octets that were written and that the kernel has not taken yet."""
        return transports.unsent(self._layers)

    @property
    def held(self) -> int:
        """Octets of memory that the unsent octets take."""
        return transports.held(self._layers)

    @property
    def unacknowledged(self) -> int:
        """Octets that the kernel has taken and the peer's kernel has not confirmed; 0 if that cannot be told."""
        return transports.unacknowledged(self._layers)

    def give_back_sent(self) -> None:
        """Free the memory of octets that were sent, if they are more than half of a buffer."""
        transports.give_back_sent(self._layers)

    def register(self, producer: Any) -> None:
        """Pause and resume `producer` as the peer takes what is written."""
        self._layers[0].registerProducer(producer, True)

    def unregister(self) -> None:
        """Pause and resume it no longer."""
        self._layers[0].unregisterProducer()

    # The end.

    def half_close(self) -> None:
        """Send what was written and then a FIN, or TLS's close_notify, and go on reading."""
        transports.half_close(self._layers[0])

    def close(self) -> None:
        """Close when all that was written is sent."""
        self._layers[0].loseConnection()

    def reset(self) -> None:
        """Close at once; what is unsent is lost."""
        self._layers[0].abortConnection()

    # Lending to the pump.

    def can_be_lent(self, takes_tls: bool) -> bool:  # noqa: ARG002  # the kinds below ask it
        """Tell whether the pump can serve this kind of carrier; `takes_tls` says whether it serves TLS."""
        return False

    def loan(self) -> tuple[int, Session | None] | None:
        """Return the socket's descriptor and the TLS session on it; None if they cannot be lent just now."""
        return None

    def flush_session(self) -> None:
        """Write what a TLS session has left to send that the pump has given back."""

    def read_session(self) -> None:
        """Receive what a TLS session has left to read that the pump has given back."""

    def renew_buffers(self) -> bool:
        """Give back what the buffers of a TLS session have grown to; tell whether they are as small as can be."""
        return tls_sessions.renew_buffers(self._layers)


class _Socket(Carrier):
    """A socket with nothing on it."""

    __slots__ = ()

    def write(self, octets: bytes) -> None:
        """Write, and hand the kernel at once what it takes."""
        transports.send_now(self._layers[0], octets)

    def close(self) -> None:
        """Close when all that was written is sent, so mostly now. Twisted would wait for the reactor's next turn."""
        if self.unsent:
            super().close()
        else:
            transports.close_now(self._layers[0])

    def can_be_lent(self, takes_tls: bool) -> bool:  # noqa: ARG002
        """Tell that the pump serves every plain socket."""
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
        """Return the descriptor and the session, unless something is under way in the session."""
        session = tls_sessions.session(self._layers)
        return None if session is None else (self._layers[1].fileno(), session)

    def flush_session(self) -> None:
        """Write what the session has left to send."""
        tls_sessions.flush_session(self._layers)

    def read_session(self) -> None:
        """Receive what the session has left to read."""
        tls_sessions.read_session(self._layers)


NO_CARRIER = Carrier(())
"""Carries nothing, and holds nothing: what a connection has before it is made and after it is lost."""


def carrier_of(transport: ITransport) -> Carrier:
    """Return the carrier that writes to `transport`."""
    layers = transports.layers(transport)
    kind = _Socket if transports.is_plain(layers) else _Secure if transports.is_tls(layers) else Carrier
    return kind(layers)

"""A connection on a stream of HTTP/2: what differs from one over HTTP/1.1, which is the opening handshake alone.

The request comes as header fields, which are judged already, and the answer goes out as header fields. 200 takes the
place of 101, and a client needs no key (RFC 8441 section 5). From then on, a stream is a carrier like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from echod.http.answer import Answer
from echod.http.h2.stream import Stream
from echod.http.request import Head
from echod.http.upgrade import Verdict
from echod.websocket.connection import Connection

OF_HTTP1 = frozenset(("connection", "upgrade"))
"""Fields of answers that belong to a connection of HTTP/1.1 (RFC 9113 section 8.2.2)."""


class Streamed(Connection):
    """A connection on a stream. The factory makes a class of it and of the protocol's own."""

    carrier: Stream

    def await_request(self) -> None:
        """Do nothing: the request comes with the stream."""

    def begin(self, head: Head, verdict: Verdict) -> None:
        """Answer the request, unless the connection is one too many."""
        self.seen_at = self.since
        if self.is_traced:
            first = b" ".join((head.method, head.target, b"HTTP/2"))
            self.note_head(b"\r\n".join([first, *(name + b": " + value for name, value in head.lines)]))
        self.act(lambda: self.answer_request(self._refusal or verdict))

    def send_opening(self, key: str, headers: Mapping[str, str]) -> None:
        """Send the answer to an opening handshake. `key` is empty if the client sent none.

        RFC 8441 section 5 says that implementations do not do the processing of Sec-WebSocket-Key and
        Sec-WebSocket-Accept. So no key is asked for, a malformed one is no error, and without a key there is no answer
        to it. The RFC forbids neither field, though, and some clients fail without the answer to their key: those
        behind Envoy, which passes on the key of a client over HTTP/1.1 and answers that client with nothing but what
        comes back, and undici 7, which sends a key over HTTP/2, too. So a key gets its answer. A client that has sent
        none sees no difference.
        """
        accept = [("sec-websocket-accept", self.accept_value(key))] if key else []
        self._send_head(200, [*headers.items(), *accept])

    def respond(self, answer: Answer) -> None:
        """Send an answer that does not open a WebSocket."""
        self._send_head(answer.status, answer.fields)
        self.carrier.write(answer.body)

    def _send_head(self, status: int, fields: Sequence[tuple[str, str]]) -> None:
        told = [(name.lower(), value) for name, value in fields if name.lower() not in OF_HTTP1]
        if self.is_traced:
            lines = [f"HTTP/2 {status}", *(f"{name}: {value}" for name, value in told)]
            self.note_answer("\r\n".join(lines).encode())
        self.carrier.respond(status, told)

"""A connection on a stream of HTTP/2: what differs from one over HTTP/1.1, which is the opening handshake alone.

The request comes as header fields, which are judged already, and the answer goes out as header fields. 200 takes the
place of 101, and a client needs no key (RFC 8441 section 5). From then on, a stream is a carrier like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from echod.http.answer import Answer
from echod.http.request import Head
from echod.http.upgrade import Verdict
from echod.websocket.connection import Connection

OF_HTTP1 = frozenset(("connection", "upgrade"))
"""Fields of answers that belong to a connection of HTTP/1.1 (RFC 9113 section 8.2.2)."""


class Streamed(Connection):
    """A connection on a stream. The factory makes a class of it and of the protocol's own."""

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
        self._answer(200, [*headers.items(), *accept], b"")

    def respond(self, answer: Answer) -> None:
        """Send an answer that does not open a WebSocket."""
        self._answer(answer.status, answer.fields, answer.body)

    def _answer(self, status: int, fields: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send an answer, as the URL asks for it."""
        told = [(name.lower().encode(), value.encode()) for name, value in fields if name.lower() not in OF_HTTP1]
        if self.faulty is not None:
            told, body = self.faulty.answer_on_stream(status, told, body)
        if self.is_traced:
            self.note_answer(b"\r\n".join([b"HTTP/2 %d" % status, *(name + b": " + value for name, value in told)]))
        self.carrier.respond(status, told)
        self.carrier.write(body)

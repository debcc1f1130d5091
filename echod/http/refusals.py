"""Every answer other than 101 to an opening handshake, in fixed words.

Pure. Must never put into an answer what a client sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from echod.http.answer import Answer


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 101. `status` 0 means that no answer is sent, because the peer does not speak HTTP."""

    status: int
    why: str
    """The reason. The answer, the log and the metric give it in the same words."""
    headers: tuple[tuple[str, str], ...] = ()
    begin: str = ""
    """What the answer says before the reason."""
    hint: str = ""
    """What the answer says after the reason."""
    has_body: bool = True

    @property
    def text(self) -> str:
        """The line of text in the answer's body."""
        return f"{self.begin}{self.why}. {self.hint}".rstrip()


NOT_HTTP = Refusal(0, "does not speak HTTP")
NOT_AS_AGREED = Refusal(0, "does not speak HTTP/2, on which it agreed with TLS (ALPN)")
TOO_LARGE = Refusal(431, "The request head is too large")
TOO_MANY_LINES = Refusal(431, "The request head has too many lines")
NOT_ALLOWED = Refusal(405, "Only GET and HEAD are answered here", (("Allow", "GET, HEAD"),))
NO_UPGRADE_OF_HEAD = Refusal(405, "Only a GET can be upgraded", (("Allow", "GET"),))
BAD_HTTP_VERSION = Refusal(505, "HTTP/1.1 is needed")
PLAIN_HTTP = Refusal(
    426,
    "This is echod, a WebSocket echo server",
    (("Upgrade", "websocket"),),
    hint="Open this URL with ws:// (or wss://) in a WebSocket client.",
)
BAD_VERSION = Refusal(
    426, "WebSocket version 13 is needed", (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
)
BAD_VERSION_OF_STREAM = Refusal(400, "WebSocket version 13 is needed", (("Sec-WebSocket-Version", "13"),))
"""The same over HTTP/2, which has no Upgrade and so no 426 (RFC 9113 section 8.6)."""
UNKNOWN_PROTOCOL = Refusal(501, "Only the protocol websocket is served here")
"""The status is that of RFC 9220 section 3; RFC 8441 names none."""
NO_TUNNEL = Refusal(501, "There are no tunnels here")
ORIGIN_REFUSED = Refusal(403, "This origin may not connect")
DAEMON_FULL = Refusal(503, "Too many connections", (("Retry-After", "5"),))
NO_ROOM = Refusal(503, "Too much is buffered", (("Retry-After", "5"),))
GOING_AWAY = Refusal(503, "Shutting down", (("Retry-After", "1"),))
ADDRESS_FULL = Refusal(429, "Too many connections from this address", (("Retry-After", "5"),))


def bad_request(what: str, hint: str = "") -> Refusal:
    """Refuse with 400 and say what is wrong."""
    return Refusal(HTTPStatus.BAD_REQUEST, what, begin="Bad request: ", hint=hint)


def render(refusal: Refusal, date: str) -> Answer:
    """Return the answer. `date` is the current time in the format of RFC 9110 section 5.6.7."""
    connection = "Upgrade, close" if refusal.status == HTTPStatus.UPGRADE_REQUIRED else "close"
    fields = [("Date", date), ("Connection", connection), *refusal.headers]
    # 304 has no body, nor the header fields of one (RFC 9110 section 15.4.5).
    if refusal.status == HTTPStatus.NOT_MODIFIED:
        return Answer(refusal.status, fields)
    body = refusal.text.encode() + b"\n"
    fields += [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
    ]
    return Answer(refusal.status, fields, body if refusal.has_body else b"")

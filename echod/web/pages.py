"""What the WebSocket port answers to plain HTTP: the console page, and `/healthz`.

Knows which pages there are, and twisted.web's channel. Must never know a connection: a request in, the octets of its
answer out. The connection stays `EchoProtocol`'s, with its place among the live ones, its limits and its deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from importlib.resources import files
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IReactorTime, ITransport
from zope.interface import implementer

from echod.http.paths import HEALTH_PATH
from echod.http.request import PageRequest
from echod.settings import Settings
from echod.web.resources import HTML, Answer, fixed, inline_policy, make_site, text

NOT_FOUND = "There is no such page. With ws:// (or wss://) in a WebSocket client every path echoes."

_FIELDS = (b"accept-encoding", b"if-none-match")
"""All that twisted.web is told of a request beside its path: with that nothing in it can be misread."""

_ISOLATED = (("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Embedder-Policy", "require-corp"))
"""To a page that shares its process with no other site, browsers give a clock of 5 µs and not 100 µs (W3C High
Resolution Time)."""

_CONSOLE = files("echod.web").joinpath("console.html").read_bytes()
"""Read with the module, while it can be: with twistd's `--chroot` there is no such file when the daemon starts."""

_NOWHERE = IPv4Address("TCP", "0.0.0.0", 0)


@implementer(ITransport)
class _Sheet:
    """A transport to nowhere, which keeps what is written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.disconnecting = False  # which LineReceiver looks at

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def writeSequence(self, data: Any) -> None:
        self.pieces.extend(data)

    def loseConnection(self) -> None:
        self.disconnecting = True

    def getPeer(self) -> IPv4Address:
        return _NOWHERE

    getHost = getPeer


class Pages:
    """The pages that the settings ask for."""

    def __init__(self, settings: Settings, clock: IReactorTime, is_healthy: Callable[[], bool]) -> None:
        """`is_healthy` tells whether new connections are welcome."""
        pages = {HEALTH_PATH: lambda _: health(is_healthy())}
        if settings.has_console:
            pages["/"] = console()
        # No time-out: there is nothing to wait for, and the connection has a deadline of its own.
        self._site = make_site(pages, NOT_FOUND, clock, timeout=None)

    def answer(self, request: PageRequest) -> bytes:
        """Return the answer, head and body. Every page is rendered at once."""
        fields = [b"%s: %s" % (name, b", ".join(request.fields[name])) for name in _FIELDS if name in request.fields]
        line = b"%s %s HTTP/1.1" % (request.method, request.path.encode())
        sheet = _Sheet()
        channel = self._site.buildProtocol(None)
        channel.makeConnection(sheet)
        channel.dataReceived(b"\r\n".join([line, b"Host: echod", b"Connection: close", *fields, b"", b""]))
        assert sheet.disconnecting
        return b"".join(sheet.pieces)


def health(is_healthy: bool) -> Answer:
    """Return what a health check gets."""
    return (
        text(HTTPStatus.OK, "ok")
        if is_healthy
        else text(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down", ("Retry-After", "1"))
    )


def console() -> Callable[[Any], Answer]:
    """Return what answers with the console page, which may connect wherever it is told to, and fetch nothing."""
    return fixed(HTML, _CONSOLE, inline_policy(_CONSOLE, "connect-src ws: wss:", "img-src data:"), *_ISOLATED)

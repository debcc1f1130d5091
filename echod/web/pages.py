"""What the WebSocket port answers to plain HTTP: the console page, `/healthz`, and `/authority.pem`.

Pure: a request in, the bytes of its answer out. Must never know a connection. The connection stays `EchoProtocol`'s,
with its place among the live ones, its limits and its deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from importlib.resources import files
from urllib.parse import unquote_to_bytes

from echod.http import answer
from echod.http.paths import AUTHORITY_PATH, HEALTH_PATH
from echod.http.request import PageRequest
from echod.settings import Settings
from echod.web import form
from echod.web.answers import HTML, Answer, Fixed, inline_policy, text

NOT_FOUND = text(
    HTTPStatus.NOT_FOUND, "There is no such page. With ws:// (or wss://) in a WebSocket client every path echoes."
)

NO_AUTHORITY = text(HTTPStatus.NOT_FOUND, "There is no such page: echod was started without a throwaway: endpoint.")

PEM = "application/pem-certificate-chain"
"""The type of certificates in PEM format (RFC 8555 section 9.1). Browsers save it to a file."""

_ISOLATED = (("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Embedder-Policy", "require-corp"))
"""A page that shares its process with no other site gets a clock of 5 µs from browsers, and not of 100 µs (W3C High
Resolution Time)."""

_NO_LINK, _LINK = b' id="authority" hidden>', b' id="authority">'

_CONSOLE = files("echod.web").joinpath("console.html").read_bytes()
"""Read at import: with twistd's `--chroot` the file can't be reached any more when the daemon starts."""


class Pages:
    """The pages that the settings ask for."""

    def __init__(self, settings: Settings, is_healthy: Callable[[], bool], authority: str = "") -> None:
        """`is_healthy` tells whether new connections are accepted. `authority` is the certificate that clients of
        `throwaway:` endpoints have to trust, in PEM format; empty if there is none."""
        self._is_healthy = is_healthy
        self._authority = Answer(HTTPStatus.OK, PEM, authority.encode()) if authority else NO_AUTHORITY
        self._console = console(settings, has_authority=bool(authority)) if settings.has_console else None

    def answer(self, request: PageRequest) -> answer.Answer:
        """Return the answer, head and body. Over HTTP/1.1 it closes the connection."""
        found = self._find(request)
        fields = [("Connection", "close"), ("Date", formatdate(usegmt=True)), *found.fields]
        return answer.Answer(found.status, fields, b"" if request.method == b"HEAD" else found.body)

    def _find(self, request: PageRequest) -> Answer:
        path = unquote_to_bytes(request.path)
        if path == HEALTH_PATH.encode():
            return health(self._is_healthy())
        if path == AUTHORITY_PATH.encode():
            return self._authority
        if path == b"/" and self._console is not None:
            accept_encoding, if_none_match = (
                b", ".join(request.fields.get(name, [])) for name in (b"accept-encoding", b"if-none-match")
            )
            return self._console.answer(accept_encoding, if_none_match)
        return NOT_FOUND


def health(is_healthy: bool) -> Answer:
    """Return the answer to a health check."""
    return (
        text(HTTPStatus.OK, "ok")
        if is_healthy
        else text(HTTPStatus.SERVICE_UNAVAILABLE, "shutting down", ("Retry-After", "1"))
    )


def console(settings: Settings, has_authority: bool = False) -> Fixed:
    """Return the console page. It may connect to any WebSocket server, and fetch nothing. With an authority it has a
    link to `/authority.pem`."""
    page = form.fill(_CONSOLE.replace(_NO_LINK, _LINK) if has_authority else _CONSOLE, settings)
    return Fixed(HTML, page, inline_policy(page, "connect-src ws: wss:", "img-src data:"), *_ISOLATED)

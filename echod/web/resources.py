"""What all pages have in common: an answer as a value, and the one kind of resource that sends it.

twisted.web's own answers name its version, and its error pages send back what the client sent; a resource here does
neither. GET and HEAD are answered, anything else gets 405, every error is one line of plain text in fixed words.

Knows twisted.web and the headers of HTTP (RFC 9110). Must never know what is on a page.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"

_ALWAYS = (("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
"""Headers of every answer. no-cache: a kept copy is good after it was asked for with its ETag (RFC 9111 section
5.2.2.4)."""

_ENTITY_TAG = re.compile(rb'"[\x21\x23-\x7e]*"')

_AUTHORITY = re.compile(rb"https?://([^/]*)", re.IGNORECASE)
"""What comes before the path of a target in absolute-form, and in a group the host with its port; the query is gone by
then."""

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)

_log = Logger()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to GET; to HEAD, too, without the body. No `content_type`: there is no content at all, as with
    304."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    def send(self, request: Any) -> None:
        """Write it all and finish the request."""
        request.setResponseCode(self.status, HTTPStatus(self.status).phrase.encode())  # twisted.web knows fewer of them
        request.responseHeaders.removeHeader(b"Server")
        for name, value in (*_ALWAYS, *self.headers):
            request.setHeader(name.encode(), value.encode())
        if self.content_type:
            request.setHeader(b"Content-Type", self.content_type.encode())
            request.setHeader(b"Content-Length", str(len(self.body)).encode())
        request.write(self.body)
        request.finish()


RenderNow = Callable[[Request], Answer]

Render = RenderNow | Callable[[Request], Answer | Deferred[Answer]]
"""What makes an answer, now or later."""


def text(status: int, line: str, *headers: tuple[str, str]) -> Answer:
    """Return one line of plain text."""
    return Answer(status, TEXT, line.encode() + b"\n", headers)


NOT_ALLOWED = text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.", ("Allow", "GET, HEAD"))
FAILED = text(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error.")


class Page(Resource):
    """Answers with what `render` makes of a request; what is below its path isn't there."""

    def __init__(self, render: Render, not_found: Answer) -> None:
        super().__init__()
        self._render = render
        self._not_found = not_found

    def getChild(self, path: bytes, request: Request) -> Resource:  # noqa: ARG002 - twisted.web's signature
        """Return what answers that there is nothing."""
        return Page(lambda _: self._not_found, self._not_found)

    def render(self, request: Request) -> int:
        """Answer."""
        answer = self._render(request) if request.method in (b"GET", b"HEAD") else NOT_ALLOWED
        if isinstance(answer, Answer):
            answer.send(request)
        else:
            _send_later(answer, request)
        return NOT_DONE_YET  # twisted.web would set a Content-Length on a 304, too


def _send_later(answer: Deferred[Answer], request: Any) -> None:
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def send(answer: Answer) -> None:
        if not gone:
            answer.send(request)

    answer.addCallback(send).addErrback(lambda reason: request.processingFailed(reason) and None)


class QuietRequest(Request):
    """A request whose failure is told in the log, and to the client in fixed words."""

    def hosts(self) -> Sequence[bytes]:
        """Return each host, perhaps with a port, that the request is for; call it before `process`.

        A target in absolute-form outdoes the Host field (RFC 9112 section 3.2.2). HTTP/1.0 may name no host.
        """
        if (authority := _AUTHORITY.match(self.path)) is not None:
            return [authority[1]]
        return self.requestHeaders.getRawHeaders(b"Host", [])

    def process(self) -> None:
        """Take a target in any form for a path.

        Absolute-form has to be taken from everybody (RFC 9112 section 3.2.2), and twisted.web takes all of it for a
        path. `*` (RFC 9110 section 9.3.7) is a path that isn't there: twisted.web answers it past all resources.
        """
        if self.path == b"*":
            self.path = b"/*"
        elif (authority := _AUTHORITY.match(self.path)) is not None:
            self.path = self.path[authority.end() :] or b"/"
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, without twisted.web's page."""
        _log.failure("a page failed", failure=reason)
        FAILED.send(self)
        return reason


class QuietSite(Site):
    """A site that writes no line of the log for each request: a client could make it grow as fast as it likes."""

    noisy = False

    def log(self, request: object) -> None:
        """Write nothing."""


def make_site(pages: Mapping[str, Render], not_found: str, clock: IReactorTime, timeout: float | None) -> QuietSite:
    """Return the site with these pages by path, `/` and such as `/name`, and one line for all others; `timeout`:
    seconds without a read."""
    nothing = text(HTTPStatus.NOT_FOUND, not_found)
    root = Page(lambda _: nothing, nothing)
    for path, render in pages.items():
        root.putChild(path.removeprefix("/").encode(), Page(render, nothing))
    return QuietSite(root, QuietRequest, timeout=timeout, reactor=clock)


def fixed(content_type: str, body: bytes, *headers: tuple[str, str]) -> RenderNow:
    """Return what answers with `body`, always the same: compressed for who takes that, and 304 for who has it (RFC 9110
    section 13)."""
    tag = b64encode(sha256(body).digest()[:12], b"-_").decode()
    squeezed = gzip.compress(body, mtime=0)

    def render(request: Any) -> Answer:
        is_squeezed = accepts_gzip(request.getHeader(b"Accept-Encoding") or b"")
        # Two representations of one resource, and so two strong tags (section 8.8.3.3).
        own = f'"{tag}-gzip"' if is_squeezed else f'"{tag}"'
        common = (*headers, ("ETag", own), ("Vary", "Accept-Encoding"))
        if has_entity_tag(request.getHeader(b"If-None-Match") or b"", own.encode()):
            return Answer(HTTPStatus.NOT_MODIFIED, "", b"", common)
        if is_squeezed:
            return Answer(HTTPStatus.OK, content_type, squeezed, (*common, ("Content-Encoding", "gzip")))
        return Answer(HTTPStatus.OK, content_type, body, common)

    return render


def has_entity_tag(if_none_match: bytes, tag: bytes) -> bool:
    """Tell whether the header's value names `tag`: any of a list, weak or not, or `*` (RFC 9110 section 13.1.2)."""
    return if_none_match.strip() == b"*" or tag in _ENTITY_TAG.findall(if_none_match)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Tell whether gzip may be sent (RFC 9110 section 12.5.3); a weight that can't be read is taken for no."""
    weights = {}
    for item in accept_encoding.lower().split(b","):
        name, *parameters = (part.strip() for part in item.split(b";"))
        weights[name] = all(
            re.fullmatch(rb"q=(?:1(?:\.0{0,3})?|0\.(?=0{0,2}[1-9])[0-9]{1,3})", part) for part in parameters
        )
    return weights.get(b"gzip", weights.get(b"*", False))


def inline_policy(html: bytes, *directives: str) -> tuple[str, str]:
    """Return the Content-Security-Policy header under which only the page's own inline scripts and styles run, plus
    `directives`."""
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, source in _INLINE.findall(html):
        hashes[kind].append(f"'sha256-{b64encode(sha256(source).digest()).decode()}'")
    sources = [f"{kind.decode()}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    fixed_directives = ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'")
    return "Content-Security-Policy", "; ".join(["default-src 'none'", *sources, *directives, *fixed_directives])

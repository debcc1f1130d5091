"""The admin site's side of twisted.web: the one kind of resource, which sends an `Answer`.

twisted.web's own answers name its version, and its error pages send back what the client sent. A resource here does
neither. It answers GET and HEAD, and gives any other method a 405. Every error is one line of plain text in fixed
words.

Knows twisted.web. Must never know what is on a page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from echod.web.answers import Answer, text

_AUTHORITY = re.compile(rb"https?://([^/]*)", re.IGNORECASE)
"""The part of a target in absolute-form that comes before the path. The group is the host with its port. twisted.web
has taken the query off by then."""

_log = Logger()

Render = Callable[[Request], Answer | Deferred[Answer]]
"""Makes an answer, now or later."""

Below = Callable[[str], Render]
"""Returns what renders the page of that name, which a client chose."""

NOT_ALLOWED = text(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.", ("Allow", "GET, HEAD"))
FAILED = text(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error.")


def send(answer: Answer, request: Any) -> None:
    """Write the whole answer and finish the request."""
    # twisted.web knows fewer phrases
    request.setResponseCode(answer.status, HTTPStatus(answer.status).phrase.encode())
    request.responseHeaders.removeHeader(b"Server")
    for name, value in answer.fields:
        request.setHeader(name.encode(), value.encode())
    request.write(answer.body)
    request.finish()


class Page(Resource):
    """Answers with what `render` makes of a request."""

    def __init__(self, render: Render, not_found: Answer, below: Below | None = None) -> None:
        """`below` makes the pages one step below the path of this one; None: there is nothing below."""
        super().__init__()
        self._render = render
        self._not_found = not_found
        self._below = below

    def getChild(self, path: bytes, request: Request) -> Resource:  # noqa: ARG002 - twisted.web's signature
        """Return the page below this one, or a resource that answers 404."""
        if self._below is None:
            return Page(lambda _: self._not_found, self._not_found)
        return Page(self._below(path.decode(errors="replace")), self._not_found)

    def render(self, request: Request) -> int:
        """Answer."""
        answer = self._render(request) if request.method in (b"GET", b"HEAD") else NOT_ALLOWED
        if isinstance(answer, Answer):
            send(answer, request)
        else:
            _send_later(answer, request)
        return NOT_DONE_YET  # twisted.web would set Content-Length itself


def _send_later(answer: Deferred[Answer], request: Any) -> None:
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def send_unless_gone(answer: Answer) -> None:
        if not gone:
            send(answer, request)

    answer.addCallback(send_unless_gone).addErrback(lambda reason: request.processingFailed(reason) and None)


class QuietRequest(Request):
    """A request whose failure is described in the log, and to the client in fixed words."""

    def hosts(self) -> Sequence[bytes]:
        """Return each host, perhaps with a port, that the request is for. Call it before `process`.

        A target in absolute-form has precedence over the Host field (RFC 9112 section 3.2.2). HTTP/1.0 may name no
        host.
        """
        if (authority := _AUTHORITY.match(self.path)) is not None:
            return [authority[1]]
        return self.requestHeaders.getRawHeaders(b"Host", [])

    def process(self) -> None:
        """Take the path from a target in any form.

        A server must accept absolute-form (RFC 9112 section 3.2.2), and twisted.web takes all of such a target for a
        path. `*` (RFC 9110 section 9.3.7) becomes a path that does not exist: twisted.web answers `*` without asking
        any resource.
        """
        if self.path == b"*":
            self.path = b"/*"
        elif (authority := _AUTHORITY.match(self.path)) is not None:
            self.path = self.path[authority.end() :] or b"/"
        super().process()

    def processingFailed(self, reason: Failure) -> Failure:
        """Answer 500, without twisted.web's page."""
        _log.failure("a page failed", failure=reason)
        send(FAILED, self)
        return reason


class QuietSite(Site):
    """A site that writes no log line for a request: a client could make the log grow as fast as it likes."""

    noisy = False

    def log(self, request: object) -> None:
        """Write nothing."""


def make_site(
    pages: Mapping[str, Render],
    not_found: str,
    clock: IReactorTime,
    timeout: float | None,
    below: Mapping[str, Below] | None = None,
) -> QuietSite:
    """Return the site with these pages, by path: `/`, or one such as `/name`; `below` makes those one step below a
    path. Every other path gets the line `not_found`. `timeout` is how many seconds a connection may be silent."""
    nothing = text(HTTPStatus.NOT_FOUND, not_found)
    root = Page(lambda _: nothing, nothing)
    for path, render in pages.items():
        root.putChild(path.removeprefix("/").encode(), Page(render, nothing, (below or {}).get(path)))
    return QuietSite(root, QuietRequest, timeout=timeout, reactor=clock)

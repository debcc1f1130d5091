"""The admin site's resources, asked of a real site over a fake transport."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from echod.web.answers import HTML, TEXT, Answer, text
from echod.web.resources import Page, QuietSite, make_site

PAGE = b"<!doctype html>" + b"<p>echo" * 100


def fail(_: object) -> Answer:
    raise RuntimeError("secret")


@pytest.fixture
def site() -> QuietSite:
    pages = {
        "/": lambda _: Answer(200, HTML, PAGE, (("X-Own", "yes"),)),
        "/moving": lambda _: text(200, "now"),
        "/broken": fail,
        "/list": lambda _: text(200, "all"),
    }
    below = {"/list": lambda name: lambda _: text(200, f"{name!a} below")}
    return make_site(pages, "Nothing is here.", Clock(), None, below)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def ask(site: QuietSite, line: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the header fields (names in lower case) and the body. The connection is closed afterwards."""
    transport = StringTransport()
    channel = cast(Any, site.buildProtocol(None))
    channel.makeConnection(transport)
    channel.dataReceived("\r\n".join([f"{line} HTTP/1.1", "Host: x", "Connection: close", *headers, "", ""]).encode())
    assert transport.disconnecting
    head, _, body = transport.value().partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1)[:1] + line.split(": ", 1)[1:] for line in lines)
    assert len(fields) == len(lines)
    return int(first.split()[1]), fields, body


def test_a_page_does_not_name_the_server_software(site: QuietSite) -> None:
    status, fields, body = ask(site, "GET /?any=query")
    assert (status, body, fields["content-type"], fields["x-own"]) == (200, PAGE, HTML, "yes")
    assert int(fields["content-length"]) == len(PAGE)
    assert fields["cache-control"] == "no-cache"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"
    assert "server" not in fields


@pytest.mark.parametrize("target", ["http://x/moving", "HTTPS://elsewhere:9090/moving?a=b", "http://[::1]:1/moving"])
def test_a_target_may_be_in_absolute_form(site: QuietSite, target: str) -> None:
    assert ask(site, f"GET {target}") == ask(site, "GET /moving")


@pytest.mark.parametrize("target", ["http://x", "http://x?a=/moving", "http://"])
def test_a_target_without_a_path_is_the_root(site: QuietSite, target: str) -> None:
    assert ask(site, f"GET {target}") == ask(site, "GET /")


def test_head_is_get_without_the_body(site: QuietSite, logged: list[LogEvent]) -> None:
    for path in ("/", "/moving", "/nothing"):
        status, fields, body = ask(site, f"GET {path}")
        assert ask(site, f"HEAD {path}") == (status, fields, b"")
        assert int(fields["content-length"]) == len(body)
    assert not logged


@pytest.mark.parametrize(
    "path", ["/nothing", "//", "/moving/", "/moving/more", "/..", "*", "/%2e", "/%00", "http://x//", "ftp://x/moving"]
)
def test_a_missing_page_is_one_fixed_line(site: QuietSite, path: str) -> None:
    status, fields, body = ask(site, f"GET {path}")
    assert (status, body, fields["content-type"]) == (404, b"Nothing is here.\n", TEXT)
    assert "server" not in fields


@pytest.mark.parametrize("line", ["POST /", "POST /nothing", "PUT /moving", "OPTIONS *", "TRACE /", "BREW /"])
def test_other_methods_get_405(site: QuietSite, line: str) -> None:
    status, fields, body = ask(site, line)
    assert (status, fields["allow"], body) == (405, "GET, HEAD", b"Only GET and HEAD are answered here.\n")
    assert "server" not in fields


def test_a_failure_is_logged_and_answered_in_fixed_words(site: QuietSite, logged: list[LogEvent]) -> None:
    status, fields, body = ask(site, "GET /broken")
    assert (status, body) == (500, b"Internal error.\n")
    assert "server" not in fields
    assert ["secret" in str(event.get("log_failure")) for event in logged] == [True]


def test_a_request_writes_no_log_line(site: QuietSite, logged: list[LogEvent]) -> None:
    site.startFactory()
    try:
        ask(site, "GET /")
    finally:
        site.stopFactory()
    assert not logged


class Later:
    """The part of a request that a late answer uses."""

    def __init__(self) -> None:
        self.method = b"GET"
        self.finished: Deferred[None] = Deferred()
        self.failures: list[Failure] = []
        self.sent: list[str] = []

    def notifyFinish(self) -> Deferred[None]:
        return self.finished

    def processingFailed(self, reason: Failure) -> Failure:
        self.failures.append(reason)
        return reason

    def __getattr__(self, name: str) -> Any:
        return (lambda *_: self.sent.append(name)) if name != "responseHeaders" else self


@pytest.mark.parametrize("how", ["answered", "gone", "failed"])
def test_an_answer_may_come_later(how: str) -> None:
    later: Deferred[Answer] = Deferred()
    request: Any = Later()
    Page(lambda _: later, text(404, "")).render(request)
    assert not request.sent
    if how == "gone":
        request.finished.errback(ConnectionDone())
    if how == "failed":
        later.errback(ValueError())
    else:
        later.callback(text(200, "ok"))
    assert ("finish" in request.sent) == (how == "answered")
    assert len(request.failures) == (how == "failed")


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/list", b"all\n"),
        ("/list/17", b"'17' below\n"),
        ("/list/", b"'' below\n"),
        ("/list/%FF", b"'\\ufffd' below\n"),
        ("/list/17/x", b"Nothing is here.\n"),
        ("/broken/17", b"Nothing is here.\n"),
    ],
)
def test_pages_below_a_page(site: QuietSite, path: str, line: bytes) -> None:
    assert ask(site, f"GET {path}")[2] == line
    assert ask(site, "POST /list/17")[0] == 405

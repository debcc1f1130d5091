"""What all pages have in common, asked of a real site over a fake transport."""

from __future__ import annotations

import gzip
import hashlib
from base64 import b64decode
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from echod.web import resources
from echod.web.resources import (
    HTML,
    Answer,
    Page,
    QuietSite,
    accepts_gzip,
    fixed,
    has_entity_tag,
    inline_policy,
    make_site,
    text,
)

PAGE = b"<!doctype html>" + b"<p>echo" * 100


def fail(_: object) -> Answer:
    raise RuntimeError("secret")


@pytest.fixture
def site() -> QuietSite:
    pages = {"/": fixed(HTML, PAGE, ("X-Own", "yes")), "/moving": lambda _: text(200, "now"), "/broken": fail}
    return make_site(pages, "Nothing is here.", Clock(), timeout=None)


@pytest.fixture
def logged() -> Iterator[list[LogEvent]]:
    events: list[LogEvent] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def ask(site: QuietSite, line: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers (names in lower case) and body of the answer, after which the connection is closed."""
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


def test_a_page_is_answered_and_nothing_is_told_of_the_server(site: QuietSite) -> None:
    status, fields, body = ask(site, "GET /?any=query")
    assert (status, body, fields["content-type"], fields["x-own"]) == (200, PAGE, HTML, "yes")
    assert int(fields["content-length"]) == len(PAGE)
    assert fields["cache-control"] == "no-cache"
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["referrer-policy"] == "no-referrer"
    assert "server" not in fields


@pytest.mark.parametrize("target", ["http://x/moving", "HTTPS://elsewhere:9090/moving?a=b", "http://[::1]:1/moving"])
def test_a_target_in_absolute_form_is_one(site: QuietSite, target: str) -> None:
    assert ask(site, f"GET {target}") == ask(site, "GET /moving")


@pytest.mark.parametrize("target", ["http://x", "http://x?a=/moving", "http://"])
def test_without_a_path_it_is_the_root(site: QuietSite, target: str) -> None:
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
def test_what_is_not_there_is_one_fixed_line(site: QuietSite, path: str) -> None:
    status, fields, body = ask(site, f"GET {path}")
    assert (status, body, fields["content-type"]) == (404, b"Nothing is here.\n", resources.TEXT)
    assert "server" not in fields


@pytest.mark.parametrize("line", ["POST /", "POST /nothing", "PUT /moving", "OPTIONS *", "TRACE /", "BREW /"])
def test_other_methods_are_told_which_may_be_used(site: QuietSite, line: str) -> None:
    status, fields, body = ask(site, line)
    assert (status, fields["allow"], body) == (405, "GET, HEAD", b"Only GET and HEAD are answered here.\n")
    assert "server" not in fields


def test_a_failure_is_logged_and_told_in_fixed_words(site: QuietSite, logged: list[LogEvent]) -> None:
    status, fields, body = ask(site, "GET /broken")
    assert (status, body) == (500, b"Internal error.\n")
    assert "server" not in fields
    assert ["secret" in str(event.get("log_failure")) for event in logged] == [True]


def test_what_is_kept_is_asked_for_with_its_tag(site: QuietSite) -> None:
    _, fields, _ = ask(site, "GET /")
    tag = fields["etag"]
    for value in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        for method in ("GET", "HEAD"):
            status, again, body = ask(site, f"{method} /", f"If-None-Match: {value}")
            assert (status, again["etag"], body) == (304, tag, b"")
            assert not again.keys() & {"content-length", "content-type", "transfer-encoding"}
    assert ask(site, "GET /", 'If-None-Match: "other"') == (200, fields, PAGE)
    assert ask(site, "GET /", "If-None-Match: ") == (200, fields, PAGE)


def test_who_takes_gzip_gets_it_under_a_tag_of_its_own(site: QuietSite) -> None:
    _, plain, _ = ask(site, "GET /")
    status, fields, body = ask(site, "GET /", "Accept-Encoding: gzip, deflate, br")
    assert (status, gzip.decompress(body), fields["content-encoding"], fields["vary"]) == (
        200,
        PAGE,
        "gzip",
        "Accept-Encoding",
    )
    assert int(fields["content-length"]) == len(body) < len(PAGE)
    assert fields["etag"] != plain["etag"]
    assert "content-encoding" not in plain
    assert plain["vary"] == "Accept-Encoding"
    assert ask(site, "GET /", "Accept-Encoding: gzip", f"If-None-Match: {fields['etag']}")[0] == 304
    assert ask(site, "GET /", "Accept-Encoding: gzip", f"If-None-Match: {plain['etag']}")[0] == 200


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        (b"", False),
        (b"gzip", True),
        (b"GZIP;q=0.5", True),
        (b"deflate, gzip; q=1.000", True),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"gzip;q=lots", False),
        (b"identity", False),
        (b"*", True),
        (b"*;q=0.1, gzip;q=0", False),
        (b"*;q=0, gzip", True),
    ],
)
def test_who_takes_gzip(value: bytes, is_accepted: bool) -> None:
    assert accepts_gzip(value) == is_accepted


def test_entity_tags_are_compared_whole() -> None:
    assert not has_entity_tag(b'"abc"', b'"ab"')
    assert not has_entity_tag(b"abc", b'"abc"')


def test_the_policy_names_what_is_inline_and_forbids_the_rest() -> None:
    html = b"<style>p { }</style><p>style</p><script>\n1 < 2\n</script><script>2</script>"
    name, value = inline_policy(html, "connect-src wss:")
    assert name == "Content-Security-Policy"
    directives = dict(item.split(" ", 1) for item in value.split("; "))
    for kind, sources in {"style": [b"p { }"], "script": [b"\n1 < 2\n", b"2"]}.items():
        hashes = [
            b64decode(item.removeprefix("'sha256-").removesuffix("'")) for item in directives[f"{kind}-src"].split()
        ]
        assert hashes == [hashlib.sha256(source).digest() for source in sources]
    assert directives["connect-src"] == "wss:"
    assert all(
        directives[f"{name}"] == "'none'" for name in ("default-src", "frame-ancestors", "base-uri", "form-action")
    )
    assert "script-src" not in inline_policy(b"<p>none</p>")[1]


def test_no_line_of_the_log_for_a_request(site: QuietSite, logged: list[LogEvent]) -> None:
    site.startFactory()
    try:
        ask(site, "GET /")
    finally:
        site.stopFactory()
    assert not logged


class Later:
    """A request, as far as an answer that comes later looks at it."""

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

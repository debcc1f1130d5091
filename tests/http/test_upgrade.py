"""The rules of an opening handshake: every verdict, whether its head comes whole or in pieces."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.http.refusals import PLAIN_HTTP, TOO_LARGE, TOO_MANY_LINES, Refusal, bad_request
from echod.http.request import Head, PageRequest, Request
from echod.http.upgrade import HandshakeGuard, Http2, Verdict, matches
from echod.settings import Http2Mode, Settings
from tests.frames import handshake
from tests.http.heads import GOOD, GUARD, PAGES, instead, verdict, without

VERDICTS = [
    # Peers that do not speak HTTP, such as one that sends a TLS hello.
    (b"\x16\x03\x01\x02\x00\x01\x00", 0),
    # One empty line before the request line is ignored, and no more than one (RFC 9112 section 2.2).
    (b"\r\n\r\n", 0),
    (b"\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    (b"\rGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    (b"\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", 0),
    (b"\r\nGET / HTTP/1.1\r\n\r\n", 400),
    # The message itself (RFC 9112).
    (b"GET / HTTP/1.1\n\n", 400),
    (b"GET / HTTP/1.1\rX: y\r\n\r\n", 400),
    (b"GET /\r\n\r\n", 400),
    (b"GET  / HTTP/1.1\r\n\r\n", 400),
    (b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n", 400),
    (b"GET /#fragment HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/2.0\r\n\r\n", 505),
    (b"PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n", 505),
    (b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 405),
    (instead(b"Origin", b"X: a\x00b"), 400),
    (instead(b"Origin", b"X: a\x0bb"), 400),
    (instead(b"Origin", b"X: a\x1cb"), 400),
    (instead(b"Origin", b"X: a\x7fb"), 400),
    (instead(b"Origin", b"X: a\r\n folded"), 400),
    (instead(b"Origin", b"no colon"), 400),
    (instead(b"Origin", b"X : y"), 400),
    (instead(b"Origin", b": y"), 400),
    (instead(b"Origin", b"Content-Length: 5"), 400),
    (instead(b"Origin", b"Content-Length: 0\r\nTransfer-Encoding: chunked"), 400),
    (instead(b"Origin", b"Transfer-Encoding: identity"), 400),
    (without(b"Host"), 400),
    (instead(b"Origin", b"Host: twice"), 400),
    (instead(b"Host", b"Host: a/b"), 400),
    (instead(b"Host", b"Host: a:port"), 400),
    # The opening handshake (RFC 6455 section 4.2.1).
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    (b"GET / HTTP/1.0\r\n\r\n", 426),
    (b"GET /?redirect=http://evil/&after=x HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    (without(b"Upgrade"), 426),
    (instead(b"Upgrade", b"Upgrade: h2c"), 426),
    (without(b"Connection"), 400),
    (instead(b"Connection", b"Connection: keep-alive"), 400),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
    (without(b"Upgrade").replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/0.9"), 505),
    (GOOD.replace(b"HTTP/1.1", b"HTTP/2.1"), 505),
    (without(b"Host").replace(b"HTTP/1.1", b"HTTP/1.2"), 400),
    (b"GET / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 426),
    (b"HEAD / HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", 426),
    (GOOD.replace(b"GET", b"HEAD"), 405),
    (without(b"Sec-WebSocket-Version"), 426),
    (instead(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: +1_3"), 426),
    (instead(b"Sec-WebSocket-Version", b"Sec-WebSocket-Version: 8"), 426),
    (instead(b"Origin", b"Sec-WebSocket-Version: 13"), 426),
    (without(b"Sec-WebSocket-Key"), 400),
    (instead(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: short"), 400),
    (instead(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j*Q=="), 400),
    (instead(b"Origin", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400),
    (instead(b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Protocol: \xc3\xa9"), 400),
    (instead(b"Sec-WebSocket-Protocol", b"Sec-WebSocket-Protocol: a, a"), 400),
    (instead(b"Origin", b"Sec-WebSocket-Extensions: ;"), 400),
    (instead(b"Origin", b"Origin: a\r\nOrigin: b"), 400),
    (GOOD.replace(b"/chat", b"http://[/"), 400),
    (GOOD.replace(b"/chat", b"chat"), 400),
    (GOOD.replace(b"/chat", b"localhost:8080"), 400),
    (GOOD.replace(b"/chat", b"http:/chat"), 400),
    (GOOD.replace(b"/chat", b"://localhost/chat"), 400),
    (GOOD.replace(b"/chat", b"*chat"), 400),
    (b"CONNECT localhost:8080 HTTP/1.1\r\nHost: localhost:8080\r\n\r\n", 405),
    # The limits.
    (b"G" * 16384, 431),
    (b"G" * 16384 + b"\x00", 431),
    (GOOD[:-2] + b"X: y\r\n" * 100 + b"\r\n", 431),
    (GOOD[:-2] + b"X: " + b"y" * 16384 + b"\r\n\r\n", 431),
]


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(("octets", "status"), VERDICTS, ids=[repr(octets[:40]) for octets, _ in VERDICTS])
def test_refusals(octets: bytes, status: int, step: int) -> None:
    refusal = verdict(octets, step)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status
    assert refusal == verdict(octets), "the same verdict, however it is cut"


@pytest.mark.parametrize(
    "octets",
    [
        instead(b"Host", b"Host: [::1]:8080"),
        instead(b"Host", b"Host:"),
        instead(b"Host", b"Host: localhost:"),
        instead(b"Host", b"Host: [::1]:"),
        b"\r\n" + GOOD,
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.2"),
        instead(b"Upgrade", b"upgrade: foo, WebSocket"),
        instead(b"Connection", b"CONNECTION: keep-alive,\tUPGRADE"),
        instead(b"Origin", b"Content-Length: 0"),
        instead(b"Origin", b"Cookie: caf\xc3\xa9"),
        instead(b"Origin", b"Cookie: " + "city=Århus; \u0445; 元".encode()),
        instead(b"Origin", b"X: " + bytes(range(0x80, 0x100))),
        instead(b"Origin", b"Cookie: " + b"c" * 15_000),
        instead(b"Origin", b"X-Empty:"),
        instead(b"Origin", b'Sec-WebSocket-Extensions: a; b="c", d\r\nSec-WebSocket-Extensions: e'),
        GOOD[:-2] + b"X: y\r\n" * 90 + b"\r\n",
        GOOD.replace(b"/chat?a=b", b"http://localhost/chat"),
        GOOD.replace(b"/chat?a=b", b"*"),
    ],
    ids=lambda octets: repr(octets[-30:]),
)
def test_unusual_but_valid_heads(octets: bytes) -> None:
    assert isinstance(verdict(octets), Request)
    assert verdict(octets, 1) == verdict(octets)


@pytest.mark.parametrize(
    ("origin", "is_allowed"),
    [
        (None, True),
        ("https://example.com", True),
        ("HTTPS://EXAMPLE.COM", True),
        ("https://a.example.com", True),
        ("https://example.com.evil.org", False),
        ("http://example.com", False),
        ("null", False),
    ],
)
def test_origins(origin: str | None, is_allowed: bool) -> None:
    guard = HandshakeGuard(Settings(origins=("https://example.com", "https://*.example.com")))
    result = verdict(handshake("/", *([f"Origin: {origin}"] if origin else [])), guard=guard)
    assert isinstance(result, Request) if is_allowed else result == Refusal(403, "This origin may not connect")


@pytest.mark.parametrize(
    ("pattern", "text", "is_match"),
    [
        ("http://[::1]:8080", "http://[::1]:8080", True),
        ("http://[::1]:8080", "http://1:8080", False),
        ("http://[::1]:*", "http://[::1]:8080", True),
        ("http://a?", "http://ab", False),
        ("http://a.b", "http://a-b", False),
        ("*", "", True),
        ("**", "null", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*b*c*", "abxcd", True),
        ("*b*c*", "acb", False),
        ("a*bb*b", "abbb", True),
        ("a*bb*b", "abb", False),
        ("https://*.example.*", "https://a.example.com", True),
        ("https://*.example.*", "https://example.com", False),
    ],
)
def test_only_the_asterisk_is_special_in_a_pattern(pattern: str, text: str, is_match: bool) -> None:
    assert matches(pattern, text) == is_match


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_a_pattern_matches_what_a_regular_expression_does(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert matches(pattern, text) == (re.fullmatch(expression, text) is not None)


def test_a_pattern_with_many_asterisks_costs_linear_time() -> None:
    began = time.process_time()
    assert not matches("https://*.*.*.*.example.com", "https://" + "." * 1_000_000)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("head", "method", "path"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "/"),
        (b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n", b"HEAD", "/healthz"),
        (b"GET /?close=1001&after=3 HTTP/1.0\r\n\r\n", b"GET", "/"),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "/"),
        (b"GET http://x/any/path HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "/any/path"),
        (b"GET //healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "//healthz"),
        (b"GET //x/healthz?//a?b HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "//x/healthz"),
        (b"GET //[/ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET", "//[/"),
        (b"\r\nGET /healthz HTTP/1.1\r\nHost: localhost:\r\n\r\n", b"GET", "/healthz"),
        (b"GET /healthz HTTP/1.9\r\nHost: x\r\n\r\n", b"GET", "/healthz"),
        # The request of `curl --http2`; other upgrades; an upgrade in HTTP/1.0, which has none.
        (
            b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
            b"h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
            b"GET",
            "/",
        ),
        (
            b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2, foo\r\n\r\n",
            b"HEAD",
            "/healthz",
        ),
        (b"GET /healthz HTTP/1.0\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", b"GET", "/healthz"),
    ],
)
def test_plain_http_becomes_a_page_request(head: bytes, method: bytes, path: str, step: int) -> None:
    request = verdict(head, step, PAGES)
    assert isinstance(request, PageRequest)
    assert (request.method, request.path) == (method, path)
    assert verdict(head, step) == PLAIN_HTTP or method == b"HEAD"


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        # Paths that only a WebSocket client can use, and opening handshakes that lost their Upgrade field on the way.
        (b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /info?a HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (without(b"Upgrade"), 426),
        (instead(b"Upgrade", b"Upgrade: h2c"), 426),
        (without(b"Upgrade").replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n\r\n", 426),
        # Invalid request targets.
        (b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET xhealthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"HEAD xhealthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        # Requests that are refused without pages, too.
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (GOOD.replace(b"GET", b"HEAD"), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_requests_that_get_no_page(octets: bytes, status: int) -> None:
    refusal = verdict(octets, guard=PAGES)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_without_the_console_only_what_programs_ask_for_is_a_page() -> None:
    guard = HandshakeGuard(Settings(has_console=False), has_pages=True)
    for path in ("/", "/any/path"):
        assert verdict(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), guard=guard) == PLAIN_HTTP
    for path in ("/healthz", "/authority.pem"):
        assert isinstance(verdict(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), guard=guard), PageRequest)


def test_a_handshake_is_judged_the_same_with_pages() -> None:
    assert verdict(GOOD, guard=PAGES) == verdict(GOOD)


class TestStreams:
    """Requests over HTTP/2."""

    def judge(
        self, method: bytes = b"GET", target: bytes = b"/", protocol: bytes | None = None, **fields: bytes
    ) -> Verdict:
        lines = [(name.replace("_", "-").encode(), value) for name, value in {"host": b"x", **fields}.items()]
        head = Head(method, target, b"2", {name: [value] for name, value in lines if value}, lines)
        return PAGES.judge_stream(head, protocol, 100, has_body=False)

    def test_a_websocket(self) -> None:
        found = self.judge(b"CONNECT", b"/a?b", b"WebSocket", sec_websocket_version=b"13")
        assert isinstance(found, Request)
        assert (found.path, found.query, found.key) == ("/a", "b", "")

    @pytest.mark.parametrize(("key", "found"), [(b"A" * 22 + b"==", "A" * 22 + "=="), (b"none", ""), (b"A, B", "")])
    def test_a_key_that_a_proxy_passes_on(self, key: bytes, found: str) -> None:
        judged = self.judge(b"CONNECT", b"/", b"websocket", sec_websocket_version=b"13", sec_websocket_key=key)
        assert isinstance(judged, Request)
        assert judged.key == found

    def test_a_page(self) -> None:
        assert isinstance(self.judge(origin=b"https://elsewhere.example"), PageRequest)
        assert isinstance(self.judge(b"HEAD"), PageRequest)

    @pytest.mark.parametrize("host", [b"", b"a b", b"a/b"])
    @pytest.mark.parametrize("method", [b"GET", b"CONNECT"])
    def test_a_host_that_is_none(self, method: bytes, host: bytes) -> None:
        protocol = b"websocket" if method == b"CONNECT" else None
        if method == b"CONNECT" and not host:
            host = b"["
        found = self.judge(method, b"/", protocol, sec_websocket_version=b"13", host=host)
        assert found == bad_request("the Host header")

    def test_what_is_too_large(self) -> None:
        head = Head(b"GET", b"/", b"2", {}, [(b"a", b"b")] * 101)
        assert GUARD.judge_stream(head, None, 16 * 1024, False) == TOO_MANY_LINES
        assert GUARD.judge_stream(head, None, 16 * 1024 + 1, False) == TOO_LARGE

    def test_no_answer_to_head_has_a_body(self) -> None:
        found = self.judge(b"HEAD", b"/info")
        assert isinstance(found, Refusal)
        assert not found.has_body


def test_the_preface_of_http2() -> None:
    octets = b"PRI * HTTP/2.0\r\n\r\n"
    assert verdict(octets) is Http2.PREFACE
    found = verdict(octets, guard=HandshakeGuard(Settings(http2=Http2Mode.OFF)))
    assert isinstance(found, Refusal)
    assert found.status == 505

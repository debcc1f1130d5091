"""The handshake guard: every verdict, however the octets are cut, and what it hands on and answers."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.http.handshake import (
    DAEMON_FULL,
    NOT_HTTP,
    PLAIN_HTTP,
    HandshakeGuard,
    HeadReader,
    PageRequest,
    Refusal,
    Request,
    client_address,
    matches,
    plain_address,
    render,
)
from echod.settings import Settings
from tests.frames import handshake

GUARD = HandshakeGuard(Settings())
PAGES = HandshakeGuard(Settings(), has_pages=True)
GOOD = handshake("/chat?a=b", "Sec-WebSocket-Protocol: one, two", "Origin: https://example.com")


def verdict(octets: bytes, step: int = 0, guard: HandshakeGuard = GUARD) -> Request | PageRequest | Refusal | None:
    reader = HeadReader(guard)
    result = None
    for start in range(0, len(octets), step or len(octets)):
        result = reader.feed(octets[start : start + (step or len(octets))])
        if result is not None:
            break
    return result


def without(line: bytes) -> bytes:
    assert b"\r\n" + line in GOOD
    start = GOOD.index(b"\r\n" + line)
    return GOOD[:start] + GOOD[GOOD.index(b"\r\n", start + 2) :]


def instead(line: bytes, other: bytes) -> bytes:
    return without(line)[:-2] + other + b"\r\n\r\n"


def test_a_good_request() -> None:
    request = verdict(GOOD)
    assert isinstance(request, Request)
    assert (request.path, request.query, request.subprotocols) == ("/chat", "a=b", ("one", "two"))
    assert (request.key, request.extensions) == ("dGhlIHNhbXBsZSBub25jZQ==", "")
    assert request.fields[b"origin"] == [b"https://example.com"]


def test_a_path_may_begin_with_two_slashes() -> None:
    request = verdict(handshake("//x/info?delay=1s&reason=a?b"))
    assert isinstance(request, Request)
    assert (request.path, request.query) == ("//x/info", "delay=1s&reason=a?b")


def test_what_comes_behind_the_head_is_kept() -> None:
    reader = HeadReader(GUARD)
    assert reader.feed(GOOD[:-1]) is None
    assert isinstance(reader.feed(GOOD[-1:] + b"\x81\x00\x85"), Request)
    assert reader.rest == b"\x81\x00\x85"


VERDICTS = [
    # What does not speak HTTP, such as a TLS hello.
    (b"\x16\x03\x01\x02\x00\x01\x00", 0),
    # One empty line before the request line is ignored, and no more of it (RFC 9112 section 2.2).
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
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
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
def test_what_is_unusual_but_right(octets: bytes) -> None:
    assert isinstance(verdict(octets), Request)
    assert verdict(octets, 1) == verdict(octets)


@pytest.mark.parametrize("octet", range(0x80, 0x100))
def test_no_octet_above_ascii_begins_a_header(octet: int) -> None:
    request = verdict(
        handshake("/", *["X-Forwarded-For: 10.0.0.1"]).replace(
            b"10.0.0.1", b"a" + bytes([octet]) + b"X-Forwarded-For: 6.6.6.6"
        )
    )
    assert isinstance(request, Request)
    assert client_address(request, "192.0.2.1", 1) == "192.0.2.1"


def test_the_limit_of_a_head_is_a_setting() -> None:
    guard = HandshakeGuard(Settings(max_request_head=len(GOOD)))
    assert isinstance(verdict(GOOD, guard=guard), Request)
    longer = verdict(GOOD[:-2] + b"X:\r\n\r\n", guard=guard)
    assert isinstance(longer, Refusal)
    assert longer.status == 431


def test_extensions_of_several_lines_are_one_list() -> None:
    request = verdict(instead(b"Origin", b"Sec-WebSocket-Extensions: a, b\r\nSec-WebSocket-Extensions: c"))
    assert isinstance(request, Request)
    assert request.extensions == "a, b, c"


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_octets_get_the_same_verdict_however_they_are_cut(octets: bytes, step: int) -> None:
    octets = b"GET " + octets
    assert verdict(octets, step) == verdict(octets)


def test_a_head_that_comes_octet_by_octet_costs_linear_time() -> None:
    guard = HandshakeGuard(Settings(max_request_head=2**20))
    head = b"GET / HTTP/1.1\r\nX: " + b"y" * 100_000
    began = time.process_time()
    assert verdict(head, 1, guard) is None
    # Searched from its start each time, it would be five thousand million octets.
    assert time.process_time() - began < 5


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


@pytest.mark.parametrize(
    ("headers", "hops", "address"),
    [
        ([], 1, "192.0.2.1"),
        (["X-Forwarded-For: 10.0.0.1"], 0, "192.0.2.1"),
        (["X-Forwarded-For: 10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, 10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 6.6.6.6, 10.0.0.1, 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1"], 3, "10.0.0.1"),
        (["X-Forwarded-For: 2001:DB8::1"], 1, "2001:db8::1"),
        (["X-Forwarded-For: ::ffff:10.0.0.1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: ::FFFF:a00:1"], 1, "10.0.0.1"),
        (["X-Forwarded-For: <script>"], 1, "192.0.2.1"),
        (["X-Forwarded-For: fe80::1%eth0"], 1, "192.0.2.1"),
        (["X-Forwarded-For: 6.6.6.6:1, 10.0.0.1:4711"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 10.0.0.1:4711, 10.0.0.2"], 2, "10.0.0.1"),
        (["X-Forwarded-For: [2001:DB8::1]:4711"], 1, "2001:db8::1"),
        (["X-Forwarded-For: [2001:DB8::1]"], 1, "2001:db8::1"),
        (["X-Forwarded-For: [::ffff:10.0.0.1]:4711"], 1, "10.0.0.1"),
        (["X-Forwarded-For: 2001:db8::1:4711"], 1, "2001:db8::1:4711"),  # nobody can tell it from an address
        *(
            ([f"X-Forwarded-For: {hop}"], 1, "192.0.2.1")
            for hop in (
                *(
                    "10.0.0.1:",
                    "10.0.0.1:port",
                    "10.0.0.1:123456",
                    "10.0.0.1:-1",
                    "10.0.0.1:1:2",
                    "10.0.0.1 :1",
                    "10.0.256.1:1",
                ),
                *(
                    "[10.0.0.1]",
                    "[10.0.0.1]:1",
                    "[2001:db8::1",
                    "2001:db8::1]",
                    "[2001:db8::1]1",
                    "[2001:db8::1]:",
                    "[[2001:db8::1]]:1",
                ),
                *(
                    "[fe80::1%eth0]:1",
                    "[]:1",
                    ":1",
                    '"[2001:db8::1]:1"',
                    "unknown",
                    "unknown:1",
                    "localhost:1",
                    "10.0.0.1:\xb2",
                ),
            )
        ),
        (["X-Forwarded-For: ,"], 1, "192.0.2.1"),
    ],
)
def test_the_client_behind_proxies(headers: list[str], hops: int, address: str) -> None:
    request = verdict(handshake("/", *headers))
    assert isinstance(request, Request)
    assert client_address(request, "192.0.2.1", hops) == address


@pytest.mark.parametrize(("hops", "address"), [(0, None), (1, "10.0.0.1"), (2, "6.6.6.6")])
def test_the_client_behind_a_proxy_that_calls_over_a_unix_socket(hops: int, address: str | None) -> None:
    request = verdict(handshake("/", "X-Forwarded-For: 6.6.6.6, 10.0.0.1"))
    assert isinstance(request, Request)
    assert client_address(request, None, hops) == address


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:c000:201", "192.0.2.1"),
        ("::ffff:0:c000:201", "::ffff:0:c000:201"),
        ("::192.0.2.1", "::192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_an_address_of_ipv4_is_written_as_one(address: str, plain: str) -> None:
    assert plain_address(address) == plain


def test_answers_are_http() -> None:
    answer = render(DAEMON_FULL, "Sun, 06 Nov 1994 08:49:37 GMT")
    assert answer == (
        b"HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: "
        b"close\r\nRetry-After: 5\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\nX-Content-Type-Options: "
        b"nosniff\r\n\r\nToo many connections.\n"
    )


def test_plain_http_is_told_what_this_is() -> None:
    refusal = verdict(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(refusal, Refusal)
    head, body = render(refusal, "now").split(b"\r\n\r\n")
    assert b"\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n" in head
    assert body.count(b"\n") == 1
    assert b"ws://" in body
    for name in (b"autobahn", b"twisted", b"Location"):
        assert name.lower() not in (head + body).lower()


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
        # As `curl --http2` has it; then what HTTP/1.0 does not know.
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
def test_plain_http_is_handed_on_where_there_are_pages(head: bytes, method: bytes, path: str, step: int) -> None:
    request = verdict(head, step, PAGES)
    assert isinstance(request, PageRequest)
    assert (request.method, request.path) == (method, path)
    assert verdict(head, step) == PLAIN_HTTP or method == b"HEAD"


def test_a_page_request_has_the_fields() -> None:
    request = verdict(b'GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: "a"\r\nif-none-match: "b"\r\n\r\n', guard=PAGES)
    assert isinstance(request, PageRequest)
    assert request.fields[b"if-none-match"] == [b'"a"', b'"b"']


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        # What only a WebSocket client has a use for, and an opening handshake that lost its upgrade on its way.
        (b"GET /json HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /info?a HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (without(b"Upgrade"), 426),
        (instead(b"Upgrade", b"Upgrade: h2c"), 426),
        (without(b"Upgrade").replace(b"HTTP/1.1", b"HTTP/1.0"), 505),
        (b"GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n\r\n", 426),
        # What is no request target, in which twisted.web would leave out the first octet, and find a page.
        (b"GET http://[/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET xhealthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"HEAD xhealthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        # What is wrong remains wrong.
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (GOOD.replace(b"GET", b"HEAD"), 405),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n", 400),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_gets_no_page(octets: bytes, status: int) -> None:
    refusal = verdict(octets, guard=PAGES)
    assert isinstance(refusal, Refusal)
    assert refusal.status == status


def test_without_the_console_only_the_health_check_is_a_page() -> None:
    guard = HandshakeGuard(Settings(has_console=False), has_pages=True)
    for path in ("/", "/any/path"):
        assert verdict(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode(), guard=guard) == PLAIN_HTTP
    assert isinstance(verdict(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", guard=guard), PageRequest)


def test_a_handshake_is_judged_the_same_with_pages() -> None:
    assert verdict(GOOD, guard=PAGES) == verdict(GOOD)


def test_the_answer_to_head_has_no_body() -> None:
    refusal = verdict(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(refusal, Refusal)
    assert render(refusal, "now").endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("octets", "why", "body"),
    [
        (
            without(b"Connection"),
            "the Connection header does not say `Upgrade`",
            "Bad request: the Connection header does not say `Upgrade`. Does a proxy drop it?",
        ),
        (
            without(b"Sec-WebSocket-Key"),
            "the Sec-WebSocket-Key header is missing",
            "Bad request: the Sec-WebSocket-Key header is missing. Does a proxy drop it?",
        ),
        (
            instead(b"Sec-WebSocket-Key", b"Sec-WebSocket-Key: a"),
            "the Sec-WebSocket-Key header",
            "Bad request: the Sec-WebSocket-Key header.",
        ),
        (GOOD.replace(b"HTTP/1.1", b"HTTP/1.0"), "HTTP/1.1 is needed", "HTTP/1.1 is needed."),
        (b"G" * 20_000, "The request head is too large", "The request head is too large."),
        # No size of --max-request-head would help.
        (
            GOOD[:-2] + b"X: y\r\n" * 100 + b"\r\n",
            "The request head has too many lines",
            "The request head has too many lines.",
        ),
    ],
)
def test_the_answer_says_why_in_the_words_of_the_log(octets: bytes, why: str, body: str) -> None:
    refusal = verdict(octets)
    assert isinstance(refusal, Refusal)
    assert refusal.why == why
    assert render(refusal, "now").endswith(f"\r\n\r\n{body}\n".encode())


def test_what_does_not_speak_http_is_named_in_the_log_alone() -> None:
    assert (NOT_HTTP.status, NOT_HTTP.why) == (0, "does not speak HTTP")

"""Refusals: the bytes of the answer, and the words that it shares with the log."""

from __future__ import annotations

import pytest

from echod.http.refusals import DAEMON_FULL, NOT_HTTP, Refusal, render
from tests.http.heads import GOOD, instead, verdict, without


def test_a_refusal_is_an_http_answer() -> None:
    answer = render(DAEMON_FULL, "Sun, 06 Nov 1994 08:49:37 GMT").octets
    assert answer == (
        b"HTTP/1.1 503 Service Unavailable\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: "
        b"close\r\nRetry-After: 5\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: 22\r\nX-Content-Type-Options: "
        b"nosniff\r\n\r\nToo many connections.\n"
    )


def test_the_answer_to_plain_http_says_what_this_is() -> None:
    refusal = verdict(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(refusal, Refusal)
    head, body = render(refusal, "now").octets.split(b"\r\n\r\n")
    assert b"\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n" in head
    assert body.count(b"\n") == 1
    assert b"ws://" in body
    for name in (b"autobahn", b"twisted", b"Location"):
        assert name.lower() not in (head + body).lower()


def test_the_answer_to_head_has_no_body() -> None:
    refusal = verdict(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert isinstance(refusal, Refusal)
    assert render(refusal, "now").octets.endswith(b"\r\n\r\n")


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
        # A larger --max-request-head would not help.
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
    assert render(refusal, "now").octets.endswith(f"\r\n\r\n{body}\n".encode())


def test_a_peer_that_does_not_speak_http_gets_no_answer() -> None:
    assert (NOT_HTTP.status, NOT_HTTP.why) == (0, "does not speak HTTP")


def test_304_has_no_body_nor_its_fields() -> None:
    assert (
        render(Refusal(304, "as asked for"), "now").octets
        == b"HTTP/1.1 304 Not Modified\r\nDate: now\r\nConnection: close\r\n\r\n"
    )

"""Answers of HTTP servers: complete and incomplete, valid and invalid."""

from __future__ import annotations

import re

import pytest

from echod.check.http_answer import (
    MAX_ANSWER_SIZE,
    MAX_BODY_SIZE,
    MAX_HEAD_SIZE,
    Answer,
    NotHttpError,
    parse,
    skip_interim,
    split_head,
)


def answer(status: str, *fields: str, body: bytes = b"") -> Answer:
    octets = "\r\n".join([f"HTTP/1.1 {status}", *fields, "", ""]).encode() + body
    assert split_head(octets) == len(octets) - len(body)
    return parse(octets)


def test_a_head_byte_by_byte_is_incomplete_until_its_last() -> None:
    octets = b"HTTP/1.1 426 Upgrade Required\r\nA: b\r\n\r\n"
    assert [split_head(octets[:size]) for size in range(len(octets))] == [0] * len(octets)
    assert split_head(octets + b"body") == len(octets)


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "not HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS"),
        (b"\x00" * 8, "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEAD_SIZE, "longer than"),
    ],
)
def test_bytes_that_are_not_http(octets: bytes, why: str) -> None:
    with pytest.raises(NotHttpError, match=why):
        split_head(octets)


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 x\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n",
    ],
)
def test_an_answer_that_only_begins_like_http(octets: bytes) -> None:
    assert split_head(octets)
    with pytest.raises(NotHttpError, match="not HTTP: "):
        parse(octets)


INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.0 199\r\nA: HTTP/1.1 101 x\r\n\r\n",
)


@pytest.mark.parametrize(
    "final", [b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 1000 x\r\n\r\n"]
)
def test_interim_answers_are_skipped_byte_by_byte(final: bytes) -> None:
    octets = b"".join(INTERIM) + final
    kept = b""
    for octet in octets:
        kept = skip_interim(kept + bytes([octet]))
    assert kept == skip_interim(octets) == skip_interim(final) == final
    assert skip_interim(octets + INTERIM[0]) == final + INTERIM[0]


def test_interim_answers_alone_are_no_answer() -> None:
    assert skip_interim(b"".join(INTERIM)) == b""
    with pytest.raises(NotHttpError, match="longer than"):
        skip_interim(INTERIM[0] + b"HTTP/1.1 100 Continue\r\nA: " + b"b" * MAX_HEAD_SIZE)


def test_fields_are_joined() -> None:
    got = answer("101 Switching Protocols", "Via: 1.1 a", "UPGRADE: websocket", "via: 1.1 b", "Connection: x, upgrade")
    assert got.values("via") == "1.1 a, 1.1 b"
    assert got.upgrades
    assert got.is_whole
    assert got.describe() == [
        "Upgrade: websocket",
        "Connection: x, upgrade",
        "Via: 1.1 a, 1.1 b",
    ]
    assert not answer("101 Switching Protocols", "Upgrade: websocket", "Connection: close").upgrades
    assert not answer("101 Switching Protocols", "Connection: upgrade").upgrades


@pytest.mark.parametrize(
    ("fields", "body", "is_whole", "line"),
    [
        (["Content-Length: 5"], b"hello", True, "hello"),
        (["Content-Length: 5"], b"hel", False, "hel"),
        (["Content-Length: 5"], b"", False, ""),
        (["Content-Length: 0"], b"", True, ""),
        ([], b"hello", False, "hello"),
        ([], b"\n \n  hello \nyou", False, "hello"),
        ([], b"x" * MAX_BODY_SIZE, True, "x" * MAX_BODY_SIZE),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", True, "hello"),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n", False, "hello"),
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n5\r\nyo", False, "hello"),
        (["Transfer-Encoding: chunked"], b"zz\r\n", False, ""),
        (["Transfer-Encoding: chunked"], b"5;" + b"x" * 70_000, True, ""),
        (["Transfer-Encoding: chunked"], b"1\r\na\r\n" * (MAX_ANSWER_SIZE // 6), True, "a" * MAX_BODY_SIZE),
        ([], b"<html>\r\n<head><title>\r\n  502 &lt;Bad&gt;\r\n Gateway</title></head>", False, "502 <Bad> Gateway"),
        ([], b"\xff\xfe", False, "\ufffd\ufffd"),
    ],
)
def test_the_line_of_a_body_that_says_something(fields: list[str], body: bytes, is_whole: bool, line: str) -> None:
    got = answer("503 Service Unavailable", *fields, body=body)
    assert (got.is_whole, got.first_line) == (is_whole, line)
    assert (f"body: {line}" in got.describe()) == bool(line)


def test_an_endless_answer_counts_as_complete_at_some_size() -> None:
    got = answer("503 Service Unavailable", "Transfer-Encoding: chunked", body=b"1;" + b"x" * 60_000 + b"\r\na\r\n")
    assert not got.is_whole
    got = answer(
        "503 Service Unavailable", "Transfer-Encoding: chunked", body=(b"1;" + b"x" * 60_000 + b"\r\na\r\n") * 5
    )
    assert got.is_whole


@pytest.mark.parametrize(
    ("status", "fields", "hint"),
    [
        ("101 Switching Protocols", [], "dropped Upgrade and Connection from the answer"),
        ("101 Switching Protocols", ["Upgrade: websocket", "Connection: Upgrade"], ""),
        ("200 OK", ["Server: nginx/1.22.1"], r"does not pass on Upgrade and Connection \(nginx/1.22.1 answered\)"),
        ("505 HTTP Version Not Supported", [], "nginx needs `proxy_http_version 1.1`"),
        ("426 Upgrade Required", ["Via: 1.1 proxy"], r"does not pass on Upgrade and Connection \(1.1 proxy answered\)"),
        ("301 Moved Permanently", ["Location: https://a"], "does not follow redirects"),
        ("502 Bad Gateway", ["Server: nginx"], "can't reach the server behind it"),
        ("503 Service Unavailable", [], ""),
    ],
)
def test_hints(status: str, fields: list[str], hint: str) -> None:
    got = answer(status, *fields).hint()
    assert re.search(hint, got)
    assert bool(got) == bool(hint)


def test_a_hint_over_http2_names_no_field_of_http1() -> None:
    got = answer("405 Method Not Allowed", "Server: nginx")
    assert got.hint(is_http2=True) == "this is not a WebSocket address (nginx answered)"


def test_there_is_no_hint_beside_echods_own_words() -> None:
    got = answer("400 Bad Request", body=b"Bad request: the parameter goaway has no effect over HTTP/1.1.\n")
    assert got.hint() == got.hint(is_http2=True) == ""

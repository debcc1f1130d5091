"""A request head taken apart: its parts, and header fields that are lists."""

from __future__ import annotations

import pytest

from echod.http.client_address import client_address
from echod.http.refusals import TOO_MANY_LINES
from echod.http.request import Head, PageRequest, Request, has_member, members, parse
from tests.frames import handshake
from tests.http.heads import GOOD, PAGES, instead, verdict


def test_a_good_request() -> None:
    request = verdict(GOOD)
    assert isinstance(request, Request)
    assert (request.path, request.query, request.subprotocols) == ("/chat", "a=b", ("one", "two"))
    assert (request.key, request.extensions) == ("dGhlIHNhbXBsZSBub25jZQ==", "")
    assert request.fields[b"origin"] == [b"https://example.com"]


@pytest.mark.parametrize("octet", range(0x80, 0x100))
def test_no_byte_above_ascii_begins_a_header(octet: int) -> None:
    request = verdict(
        handshake("/", *["X-Forwarded-For: 10.0.0.1"]).replace(
            b"10.0.0.1", b"a" + bytes([octet]) + b"X-Forwarded-For: 6.6.6.6"
        )
    )
    assert isinstance(request, Request)
    assert client_address(request.fields, "192.0.2.1", 1) == "192.0.2.1"


def test_extensions_of_several_lines_are_one_list() -> None:
    request = verdict(instead(b"Origin", b"Sec-WebSocket-Extensions: a, b\r\nSec-WebSocket-Extensions: c"))
    assert isinstance(request, Request)
    assert request.extensions == "a, b, c"


def test_a_page_request_has_the_fields() -> None:
    request = verdict(b'GET / HTTP/1.1\r\nHost: x\r\nIf-None-Match: "a"\r\nif-none-match: "b"\r\n\r\n', guard=PAGES)
    assert isinstance(request, PageRequest)
    assert request.fields[b"if-none-match"] == [b'"a"', b'"b"']


def test_a_head_is_taken_apart() -> None:
    head = parse(b"GET /a HTTP/1.1\r\nHost: x\r\nX:\ty \r\nx: z\r\n\r\n", 3)
    assert head == Head(
        method=b"GET",
        target=b"/a",
        version=b"1.1",
        fields={b"host": [b"x"], b"x": [b"y", b"z"]},
        lines=[(b"Host", b" x"), (b"X", b"\ty "), (b"x", b" z")],
    )


def test_a_head_has_no_more_lines_than_are_allowed() -> None:
    assert parse(b"GET / HTTP/1.1\r\nHost: x\r\nX: y\r\n\r\n", 1) == TOO_MANY_LINES


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([b"a"], [b"a"]),
        ([b"a, b", b"\tC ,,"], [b"a", b"b", b"C"]),
        ([b", "], []),
        ([], []),
    ],
)
def test_the_members_of_a_list(values: list[bytes], found: list[bytes]) -> None:
    fields = {b"list": values} if values else {}
    assert members(fields, b"list") == found
    assert has_member(fields, b"list", b"c") == (b"C" in found)
    assert has_member(fields, b"list", b"a") == (b"a" in found)

"""Requests over HTTP/2: what their fields become, and what makes them malformed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.http.h2.request import MalformedError, parse, size_of

Lines = list[tuple[bytes, bytes]]

GET: Lines = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"x:1"), (b":path", b"/a?b")]
CONNECT: Lines = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]
TUNNEL: Lines = [(b":method", b"CONNECT"), (b":authority", b"x:1")]


def without(name: bytes, lines: Lines = GET) -> Lines:
    return [line for line in lines if line[0] != name]


def test_a_request() -> None:
    head, protocol = parse([*GET, (b"accept", b"a"), (b"accept", b"b"), (b"te", b"trailers")])
    assert protocol is None
    assert (head.method, head.target, head.version) == (b"GET", b"/a?b", b"2")
    assert head.fields == {b"host": [b"x:1"], b"accept": [b"a", b"b"], b"te": [b"trailers"]}
    assert head.lines == [(b"host", b"x:1"), (b"accept", b"a"), (b"accept", b"b"), (b"te", b"trailers")]


def test_an_extended_connect() -> None:
    head, protocol = parse(CONNECT)
    assert (head.method, head.target, protocol) == (b"CONNECT", b"/a?b", b"websocket")


def test_a_tunnel() -> None:
    head, protocol = parse(TUNNEL)
    assert (head.method, head.target, protocol) == (b"CONNECT", b"x:1", None)


def test_a_host_in_place_of_the_authority() -> None:
    head, _ = parse([*without(b":authority"), (b"host", b"x:1")])
    assert head.fields == {b"host": [b"x:1"]}
    head, _ = parse([*GET, (b"host", b"x:1")])
    assert head.lines == [(b"host", b"x:1")]
    head, _ = parse(without(b":authority"))
    assert head.fields == {}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        *(without(name) for name in (b":method", b":scheme", b":path")),
        *(without(name, CONNECT) for name in (b":scheme", b":path", b":authority")),
        without(b":authority", TUNNEL),
        [*TUNNEL, (b":path", b"/")],
        [*TUNNEL, (b":scheme", b"https")],
        [*GET, (b":protocol", b"websocket")],
        [*GET, (b"content-length", b"")],
        [*GET, (b"content-length", b"+1")],
        [*GET, (b"content-length", b"1"), (b"content-length", b"2")],
        [*GET, (b":method", b"GET")],
        [*GET, (b":status", b"200")],
        [(b"a", b"b"), *GET],
        [*without(b":path"), (b":path", b"")],
        [*without(b":path"), (b":path", b"/a b")],
        [*without(b":path"), (b":path", b"/a#b")],
        [*GET, (b"host", b"y")],
        [*GET, (b"host", b"x:1"), (b"host", b"x:1")],
        *([*GET, (name, b"x")] for name in (b"Accept", b"a b", b"", b"a\0", b"a:")),
        *([*GET, (b"accept", value)] for value in (b" a", b"a\t", b"a\r\nb", b"a\0b", b"a\x7fb")),
        *([*GET, (name, b"x")] for name in (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te")),
        [*GET, (b"transfer-encoding", b"chunked")],
    ],
)
def test_malformed(lines: Lines) -> None:
    with pytest.raises(MalformedError):
        parse(lines)


@given(st.lists(st.tuples(st.sampled_from([line[0] for line in CONNECT] + [b"host", b"te", b"x"]), st.binary())))
def test_whatever_comes_it_is_a_head_or_malformed(lines: Lines) -> None:
    try:
        head, _ = parse(lines)
    except MalformedError:
        return
    assert head.method


def test_the_size_counts_32_bytes_for_each_field() -> None:
    assert size_of([(b"a", b"bc"), (b"", b"")]) == 67

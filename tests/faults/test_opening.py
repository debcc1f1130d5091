"""Answers to the opening handshake that are wrong, and what a page of another origin does not get.
tests/test_faults_daemon.py has the bytes of each answer."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from twisted.internet.task import Clock

from echod.faults.opening import Failures, is_foreign, passes
from echod.settings import Settings
from tests.fakes import Peer, make_factory
from tests.frames import DEFLATE, TEXT, client_frame, handshake, split


def answer(query: str, *headers: str, path: str = "/", **settings: Any) -> bytes:
    """Return what answers an opening handshake."""
    peer = Peer(make_factory(Clock(), **settings))
    return peer.send(handshake(f"{path}?{query}", *headers))


def is_refused(octets: bytes) -> bool:
    return octets.startswith(b"HTTP/1.1 400 ")


# What may not outlast a connection.

LASTING = [
    "header=Set-Cookie:a%3Db",
    "header=set-cookie:a%3Db",
    "header=X-A:b&header=Clear-Site-Data:%22*%22",
    "header=Location:/",
    "header=Strict-Transport-Security:max-age%3D1",
    "header=Some-Future-Field:1",
    "status=302&location=/",
    "auth=basic:a:b",
    "auth=bearer:a",
]

OWN = ["http://localhost", "https://localhost", "HTTP://LOCALHOST"]

FOREIGN = [
    "https://a.example",
    "http://localhost:8080",
    "null",
    "",
    "http://[",
    "localhost",
    "http://localhost.a.example",
]


@pytest.mark.parametrize("query", LASTING)
def test_what_lasts_is_not_for_a_page_of_another_origin(query: str) -> None:
    assert not is_refused(answer(query))
    for origin in OWN:
        assert not is_refused(answer(query, f"Origin: {origin}"))
    for origin in FOREIGN:
        octets = answer(query, f"Origin: {origin}")
        assert is_refused(octets)
        assert octets.endswith(b" has something to keep, which a page of another origin can't ask for.\n")


@pytest.mark.parametrize(
    "query", ["header=X-A:b", "header=Retry-After:5", "status=302", "body=a&status=404", "bad=rsv2"]
)
def test_what_does_not_last_is_for_everybody(query: str) -> None:
    assert not is_refused(answer(query, "Origin: https://a.example"))


def test_what_the_operator_asks_for_was_not_chosen_by_a_page() -> None:
    for query in ("", "close=1000"):
        assert b"\r\nSet-Cookie: a=b\r\n" in answer(query, "Origin: https://a.example", fault="header=Set-Cookie:a%3Db")
    query = "header=Set-Cookie:c%3Dd"
    assert is_refused(answer(query, "Origin: https://a.example", fault="header=Set-Cookie:a%3Db"))
    assert b"\r\nSet-Cookie: c=d\r\n" in answer(query, fault="header=Set-Cookie:a%3Db")


def test_two_origins_or_hosts_are_foreign() -> None:
    assert not is_foreign({})
    assert is_foreign({b"origin": [b"http://a"], b"host": []})
    assert is_foreign({b"origin": [b"http://a"]})
    assert not is_foreign({b"origin": [b"http://a:1"], b"host": [b"A:1"]})


def test_fields_that_pass() -> None:
    assert passes("X-Anything")
    assert passes("sec-websocket-protocol")
    assert passes("Server")
    assert not passes("Alt-Svc")
    assert not passes("Sec-Other")


@pytest.mark.parametrize("name", ["subprotocol", "extension", "header", "location", "body", "greeting", "auth", "key"])
@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: b=c", "a\nb", "a\rb", "a\0b", "X-A:b\r\n\r\n<html>", "a\x85b"])
def test_no_text_splits_an_answer(name: str, text: str) -> None:
    for more in ("", "&status=302", "&fail=1", "&key=a"):
        octets = answer(f"{name}={quote(text)}{more}")
        assert is_refused(octets)
        assert b"Set-Cookie" not in octets
        assert octets.count(b"\r\n\r\n") == 1


# Answers.

KEY = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"


def test_accept() -> None:
    assert KEY in answer("accept=twice")
    assert answer("accept=twice").count(b"Sec-WebSocket-Accept: ") == 2
    assert KEY not in answer("accept=wrong")
    assert b"Sec-WebSocket-Accept" not in answer("accept=missing")


def test_fields_of_a_101() -> None:
    octets = answer("without=upgrade&connection=wrong&extension=a&subprotocol=b", DEFLATE)
    assert octets.startswith(b"HTTP/1.1 101 Switching Protocols\r\nConnection: close\r\n" + KEY)
    assert octets.endswith(b"Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: a\r\n\r\n")
    assert b"\r\nUpgrade: echo\r\n" in answer("upgrade=wrong")
    assert answer("head=junk-before").startswith(b"junk\r\nHTTP/1.1 101 ")


def test_a_refusal_has_nothing_of_a_101() -> None:
    opening = "accept=wrong&without=connection&upgrade=wrong&connection=wrong&subprotocol=a&extension=b"
    plain, wrong = answer("status=404"), answer(f"status=404&{opening}")
    assert plain.partition(b"Date:")[0] == wrong.partition(b"Date:")[0]
    assert plain.partition(b"Connection:")[2] == wrong.partition(b"Connection:")[2]


def test_a_redirect_and_a_body() -> None:
    octets = answer("status=302&location=/a&body=gr%C3%BCn")
    assert b"\r\nContent-Length: 5\r\n" in octets
    assert octets.endswith(b"\r\nLocation: /a\r\n\r\ngr\xc3\xbcn")
    assert answer("status=304&body=a").endswith(b"\r\n\r\n")
    assert b"Location" not in answer("status=302&location=/a&auth=bearer:b")


def test_credentials() -> None:
    for query, right in (("auth=basic:a:b", "Basic YTpi"), ("auth=bearer:c", "bEARER c")):
        assert answer(query, f"Authorization: {right}").startswith(b"HTTP/1.1 101 ")
        assert answer(f"{query}&status=404", f"Authorization: {right}").startswith(b"HTTP/1.1 404 ")
        for wrong in ([], ["Authorization: Basic YTpj"], ["Authorization: Bearer d"], [f"Authorization: {right}"] * 2):
            octets = answer(query, *wrong)
            assert octets.startswith(b"HTTP/1.1 401 ")
            assert b"\r\nWWW-Authenticate: " in octets


@pytest.mark.parametrize("query", ["bomb=1MiB", "bad=deflate-window", "bad=deflate-garbage"])
def test_what_needs_permessage_deflate(query: str) -> None:
    assert answer(query).endswith(b" needs an offer of permessage-deflate.\n")
    assert is_refused(answer(f"{query}&compression=off", DEFLATE))
    octets = answer(query, f"{DEFLATE}; server_max_window_bits=9")
    assert b"server_max_window_bits=9" in octets
    assert octets.partition(b"\r\n\r\n")[2]


# What the connection itself makes of it.


def test_a_subprotocol_that_was_not_offered_is_in_use() -> None:
    for query, name in (("subprotocol=c", "c"), ("subprotocol=", None), ("delay=1s", "a")):
        octets = answer(query, "Sec-WebSocket-Protocol: a, b", path="/info")
        (frame,), _ = split(octets.partition(b"\r\n\r\n")[2])
        told = json.loads(frame.payload)
        assert told["subprotocol"] == name


def test_info_tells_what_is_asked_for() -> None:
    octets = answer("header=X-A:b&bad=rsv1&after=1&mutate=2&seed=3", DEFLATE, path="/info")
    (frame,), _ = split(octets.partition(b"\r\n\r\n")[2])
    told = json.loads(frame.payload)
    assert told["faults"] == {
        "are_on": True, "header": [["X-A", "b"]], "bad": "rsv1", "after": 1, "mutate": 2, "seed": 3
    }  # fmt: skip
    assert told["extensions"] == []
    assert told["limits"]["max_bomb"] == Settings().max_bomb


def test_a_connection_with_a_wrong_answer_echoes(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.send(handshake("/?accept=wrong"))
    assert peer.send(client_frame(TEXT, b"a")) == b"\x81\x01a"


def test_info_tells_bytes_in_hex() -> None:
    (frame, *_), _ = split(answer("raw=8a00", path="/info").partition(b"\r\n\r\n")[2])
    assert json.loads(frame.payload)["faults"]["raw"] == "8a00"


def test_no_faults() -> None:
    assert answer("status=404&accept=wrong&auth=x", has_faults=False).startswith(b"HTTP/1.1 101 ")
    assert answer("", has_faults=False, fault="status=404").startswith(b"HTTP/1.1 101 ")


# Failures.


def test_keys_are_forgotten() -> None:
    clock = Clock()
    failures = Failures(Settings(max_fail_keys=2, fail_key_time=10), clock)
    assert [failures.fails("a", 2) for _ in range(3)] == [True, True, False]
    clock.advance(9)
    assert not failures.fails("a", 2)
    clock.advance(10)
    assert failures.fails("a", 2)
    for key in "bc":
        assert failures.fails(key, 1)
    assert len(failures) == 2
    assert failures.fails("a", 1), "it was the one that was not used for longest"
    clock.advance(10)
    failures.fails("d", 1)
    assert len(failures) == 1


def test_failures_are_those_of_one_daemon() -> None:
    factory = make_factory(Clock())
    found = []
    for _ in range(3):
        peer = Peer(factory)
        found.append(peer.send(handshake("/?fail=2&key=a&status=429"))[9:12])
        peer.lose()
    assert found == [b"429", b"429", b"101"]

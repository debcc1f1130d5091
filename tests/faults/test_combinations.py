"""Any combination of parameters: nothing escapes, nothing is left behind, no answer is split, and a browser keeps
nothing of a page of another origin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import PARAMETERS
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.faults.queries import VALID, write
from tests.frames import (
    BINARY,
    CLOSE,
    DEFLATE,
    PING,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    deflated_octets,
    handshake,
)
from tests.h2_client import Http2Client, exchange

_DURATIONS = st.sampled_from(["0", "1ms", "100ms", "250ms", "1s", "1m"])
_TEXTS = st.text(max_size=20) | st.sampled_from(["a\r\nSet-Cookie: b=c", "a\nb", "x\x85y", "\u2028", "\ud7ff", "grün"])

# Values of each parameter, right and wrong.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "accept": st.sampled_from(["wrong", "missing", "twice"]),
    "without": st.sampled_from(["upgrade", "connection"]),
    "upgrade": st.just("wrong"),
    "connection": st.just("wrong"),
    "subprotocol": _TEXTS,
    "extension": _TEXTS,
    "header": st.tuples(st.sampled_from(["X-A", "Set-Cookie", "Location", "a b", "Content-Length"]), _TEXTS).map(
        ":".join
    ),
    "location": st.sampled_from(["/", "/a?b", "//a", "/\\a", "/a\r\nb", "a"]),
    "body": _TEXTS,
    "status": st.integers(299, 600),
    "handshake-delay": _DURATIONS,
    "auth": st.sampled_from(["basic:a:b", "bearer:c", "basic:", "basic:a\n:b"]),
    "fail": st.integers(0, 3),
    "key": _TEXTS,
    "head": st.sampled_from(list(HEADS)),
    "drop": st.sampled_from([0, 0.5, 1]),
    "seed": st.integers(0, 5),
    "mutate": st.integers(0, 3),
    "fragment": st.integers(0, 5),
    "delay": _DURATIONS,
    "compression": st.sampled_from(["mirror", "deflate", "off"]),
    "greeting": _TEXTS,
    "greeting-delay": _DURATIONS,
    "ping": _DURATIONS,
    "pong-every": _DURATIONS,
    "every": _DURATIONS,
    "count": st.integers(0, 3),
    "burst": st.integers(0, 50),
    "size": st.sampled_from(["1", "10", "64KiB"]),
    "pong": _DURATIONS | st.just("no"),
    "close-reply": _DURATIONS | st.just("no"),
    "slice": st.integers(0, 20),
    "rate": st.sampled_from(["1", "100", "1KiB", "1MiB"]),
    "cut": st.integers(0, 300),
    "read-rate": st.sampled_from(["1", "100", "1MiB"]),
    "raw": st.binary(max_size=10).map(bytes.hex),
    "bad": st.sampled_from(list(BAD)),
    "bomb": st.sampled_from(["1", "1MiB"]),
    "close": st.sampled_from([1000, 1005, 1006, 4999]),
    "reason": _TEXTS,
    "abort": st.just(""),
    "goaway": st.just(""),
    "stall": st.just(""),
    "after": st.integers(0, 3),
}

MESSAGES = (
    client_frame(TEXT, b"tea"),
    client_frame(BINARY, bytes(range(256))),
    client_frame(PING, b"ping"),
    client_frame(TEXT, deflated_octets(b"tea"), rsv=4),
    client_frame(TEXT, b"gr\xc3", fin=False),
    client_frame(0, b"\xbcn"),
    client_frame(CLOSE, close_payload(1000)),
    client_frame(3),
)

OF_THE_ANSWER = {b"date", b"connection", b"upgrade", b"sec-websocket-accept", b"sec-websocket-protocol"} | {
    *(b"sec-websocket-extensions", b"content-type", b"content-length", b"x-content-type-options", b"retry-after"),
    *(b"allow", b"www-authenticate", b"proxy-authenticate", b"x-a", b"x-echod"),
}
"""The fields that a page of another origin may get."""


def test_every_parameter_takes_part() -> None:
    assert VALUES.keys() == VALID.keys() == PARAMETERS.keys()


_queries = st.lists(st.sampled_from(list(VALUES)), max_size=8, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(VALID[name]) | VALUES[name] for name in names})
)


@contextmanager
def nothing_fails() -> Iterator[None]:
    """Assert that no exception is logged meanwhile."""
    events: list[dict[str, Any]] = []
    observe = events.append
    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a log event is a dict
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]  # likewise
    assert not [event for event in events if "log_failure" in event]


def assert_nothing_is_left(factory: EchoFactory, clock: Clock) -> None:
    """Assert that no connection is kept, and after a while no timer."""
    assert not factory.live
    assert factory.budget.total == 0
    clock.pump([0.1] * 60)
    assert not clock.getDelayedCalls()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    _queries,
    st.lists(st.sampled_from(MESSAGES), max_size=6),
    st.sampled_from(["/", "/json", "/info", "/frames"]),
    st.booleans(),
    st.sampled_from(["close", "fin", "drain", "nothing"]),
)
def test_any_combination(asked: dict[str, Any], messages: list[bytes], path: str, has_deflate: bool, end: str) -> None:
    clock = Clock()
    factory = make_factory(clock, close_timeout=2, drain_timeout=4, max_stall=10, ping_interval=0)
    peer = Peer(factory)
    query = write(asked)
    with nothing_fails():
        headers = ["Origin: https://a.example", *[DEFLATE] * has_deflate]
        answer = peer.send(handshake(f"{path}?{query}", *headers))
        for message in messages:
            if not is_over(peer):
                peer.send(message)
                clock.advance(0.05)
        if not is_over(peer):
            if end == "close":
                peer.send(client_frame(CLOSE, close_payload(1001)))
            elif end == "fin":
                peer.protocol.readConnectionLost()
        if end == "drain":
            factory.drain()
        for _ in range(30):
            if not is_over(peer):
                clock.advance(0.1)
        peer.lose()
    assert_nothing_is_left(factory, clock)
    if "slice" not in asked and "rate" not in asked and "head" not in asked and answer:
        first, *lines = answer.partition(b"\r\n\r\n")[0].split(b"\r\n")
        assert first.startswith(b"HTTP/1.1 ")
        assert {line.partition(b":")[0].lower() for line in lines} <= OF_THE_ANSWER


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    _queries,
    st.lists(st.sampled_from(MESSAGES), max_size=6),
    st.sampled_from(["/", "/json", "/info", "/frames"]),
    st.booleans(),
    st.sampled_from(["close", "end", "reset", "drain", "nothing"]),
)
def test_any_combination_on_a_stream(
    asked: dict[str, Any], messages: list[bytes], path: str, has_deflate: bool, end: str
) -> None:
    """Another stream of the connection goes on, whatever one stream asks for."""
    clock = Clock()
    factory = make_factory(clock, close_timeout=2, drain_timeout=4, max_stall=10, ping_interval=0)
    client = Http2Client(is_strict=False)
    client.h2.decoder.max_header_list_size = 100 * 1024
    made = exchange(clock, factory, client)
    other = made.opened()
    with nothing_fails():
        fields = [("origin", "https://a.example"), *[("sec-websocket-extensions", "permessage-deflate")] * has_deflate]
        number = client.connect(f"{path}?{write(asked)}", *fields)
        made.go()
        for message in messages:
            if number not in client.ended | client.resets.keys():
                client.send(number, message)
                made.go()
                clock.advance(0.05)
        if number not in client.ended | client.resets.keys():
            if end == "close":
                client.send(number, client_frame(CLOSE, close_payload(1001)))
            elif end == "end":
                client.h2.end_stream(number)
            elif end == "reset":
                client.h2.reset_stream(number)
        assert made.echo(other, client_frame(TEXT, b"tea")) == [Frame(TEXT, b"tea")]
        if end == "drain":
            factory.drain()
        for _ in range(30):
            clock.advance(0.1)
            made.go()
        made.lose()
    assert_nothing_is_left(factory, clock)
    if "head" not in asked:
        allowed = {name.decode() for name in OF_THE_ANSWER} | {":status"}
        assert client.heads.get(number, {}).keys() <= allowed


def is_over(peer: Peer) -> bool:
    """Tell whether a real transport would have reported the end by now."""
    return bool(peer.transport.aborted or peer.transport.disconnecting)

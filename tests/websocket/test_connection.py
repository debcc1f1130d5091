"""A connection over a fake transport: no exception escapes, it goes away when told, and nothing stays in memory."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from echod.core import log
from echod.core.log import LogFormat
from echod.websocket.pauses import Pause
from tests.fakes import Peer, assert_freed_at_once, make_factory
from tests.frames import (
    CLOSE,
    DEFLATE,
    PING,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    server_frame,
    split,
)
from tests.websocket.peers import TLS_FAULT, Deflater, closed_with, opened


def test_clients_bring_about_nine_lines_a_second(clock: Clock) -> None:
    out = io.StringIO()
    limiter = log.make_observer(out, LogFormat.TEXT)
    limiter.start(clock)
    globalLogPublisher.addObserver(limiter)
    try:
        factory = make_factory(clock)
        for _ in range(10):
            Peer(factory).send(b"POST / HTTP/1.1\r\n\r\n")
            Peer(factory).protocol.connectionLost(Failure(TLS_FAULT))
            opened(clock).send(client_frame(3, b""))
        clock.advance(1)
    finally:
        globalLogPublisher.removeObserver(limiter)
        limiter.stop()
    lines = [re.sub("^#[0-9]+: ", "", line.partition("] ")[2]) for line in out.getvalue().splitlines()]
    refusals = ["refused a handshake from 192.0.2.1: 405 Only GET and HEAD are answered here"]
    refusals.append("refused a handshake from 192.0.2.1: TLS: no shared cipher")
    assert [lines.count(line) for line in refusals] == [2, 2]
    assert len([line for line in lines if line.startswith("closing 192.0.2.1: 1002 ")]) == 4
    assert lines[8:] == ["22 lines left out in the last second: 22 of echod.connection"]


def test_an_exception_closes_with_1011_and_goes_no_further(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = opened(clock)
    monkeypatch.setattr(peer.protocol, "onMessage", lambda *_: 1 / 0)
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        assert closed_with(peer.frames(client_frame(TEXT, b"x") + client_frame(TEXT, b"not looked at"))) == 1011
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    assert any("log_failure" in event for event in events)
    assert not peer.protocol.data
    assert not peer.protocol.account.total


def test_going_away_when_nothing_is_under_way(peer: Peer) -> None:
    peer.protocol.go_away()
    assert peer.take() == server_frame(CLOSE, close_payload(1001, "going away"))
    assert peer.send(client_frame(TEXT, b"too late") + client_frame(PING, b"too late")) == b"", (
        "nothing follows a Close frame"
    )
    assert not peer.transport.disconnecting
    peer.send(client_frame(CLOSE, close_payload(1001)))
    assert peer.transport.disconnecting


@pytest.mark.parametrize("cut", [1, 5, 8])
def test_a_message_under_way_is_echoed_first(peer: Peer, cut: int) -> None:
    octets = client_frame(TEXT, b"under way")
    peer.send(octets[:cut])
    peer.protocol.go_away()
    assert peer.take() == b""
    assert peer.frames(octets[cut:]) == [Frame(TEXT, b"under way"), Frame(CLOSE, close_payload(1001, "going away"))]


def test_going_away_at_once(peer: Peer) -> None:
    peer.send(client_frame(TEXT, b"under way")[:5])
    peer.protocol.go_away(at_once=True)
    assert closed_with(split(peer.take())[0]) == 1001
    peer.protocol.go_away(at_once=True)
    assert peer.take() == b""


def test_going_away_before_it_is_open(clock: Clock) -> None:
    """The refusal waits until the client has asked for something, unless there is no time left."""
    peer, other = Peer(make_factory(clock)), Peer(make_factory(clock))
    for each in (peer, other):
        each.protocol.go_away()
        assert each.take() == b""
    assert peer.send(b"G").startswith(b"HTTP/1.1 503 ")
    other.protocol.go_away(at_once=True)
    assert other.take().startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("kind", ["echo", "deflate", "json", "refused", "failed", "never opened", "backlogged"])
def test_a_lost_connection_is_freed_without_the_garbage_collector(clock: Clock, kind: str) -> None:
    def use(peer: Peer) -> None:
        if kind == "refused":
            peer.send(b"GET / HTTP/1.1\r\n\r\n")
        elif kind != "never opened":
            peer.open("/json" if kind == "json" else "/", *([DEFLATE] if kind == "deflate" else []))
            deflated = Deflater().deflate(json.dumps("x" * 100).encode())
            peer.send(client_frame(TEXT, deflated, rsv=4) if kind == "deflate" else client_frame(TEXT, b"1"))
        if kind == "failed":
            peer.send(client_frame(3))
        if kind == "backlogged":
            peer.protocol.pauseProducing()

    assert_freed_at_once(clock, use, max_connections_per_address=5)


def test_the_attributes_of_a_connection_fit_into_a_shared_dictionary(clock: Clock) -> None:
    """Python shares the names of 30 attributes at most. A connection with more takes 1.3 KiB more memory."""
    peer = opened(clock, ping_interval=60)
    peer.protocol.pause(Pause.BACKLOG)
    peer.protocol.resume(Pause.BACKLOG)
    peer.send(client_frame(TEXT, b"hello") + client_frame(PING) + client_frame(CLOSE, close_payload(1000, "bye")))
    peer.lose()
    assert len(vars(peer.protocol)) <= 30

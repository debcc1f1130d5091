"""Messages over a fake transport: each comes back as it was, and the limits hold.

What is compared with is `tests.frames`, written from the RFC, not what Autobahn or echod would make of it.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher

from echod.settings import Compression
from tests.fakes import Peer, make_factory
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    server_frame,
    split,
)
from tests.websocket.peers import Deflater, closed_with, opened

SIZES = [0, 1, 2, 125, 126, 127, 4095, 4096, 4097, 65535, 65536, 200_000]


@pytest.mark.parametrize("step", [0, 1, 1000, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_each_message_comes_back_as_it_was(clock: Clock, opcode: int, step: int) -> None:
    sizes = [size for size in SIZES if step != 1 or size < 5000]
    payloads = [bytes(random.Random(size).choices(range(32, 127), k=size)) for size in sizes]
    octets = b"".join(client_frame(opcode, payload) for payload in payloads)
    peer = opened(clock)
    answer = b"".join(
        peer.send(octets[start : start + (step or len(octets))]) for start in range(0, len(octets), step or len(octets))
    )
    assert answer == b"".join(server_frame(opcode, payload) for payload in payloads)


@given(st.lists(st.tuples(st.sampled_from([TEXT, BINARY, PING]), st.text(max_size=120)), max_size=20), st.data())
def test_any_messages_cut_anywhere(messages: list[tuple[int, str]], data: st.DataObject) -> None:
    octets = b"".join(
        client_frame(opcode, text.encode()[:125] if opcode == PING else text.encode()) for opcode, text in messages
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=10)))
    peer = opened(Clock())
    answer = b"".join(peer.send(octets[a:b]) for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True) if a < b)
    expected = [(PONG, text.encode()[:125]) if opcode == PING else (opcode, text.encode()) for opcode, text in messages]
    assert answer == b"".join(server_frame(*frame) for frame in expected)


def test_a_fragmented_message_is_echoed_as_one_with_pings_between(peer: Peer) -> None:
    octets = [
        client_frame(TEXT, "Grüße".encode()[:3], fin=False),
        client_frame(PING, b"?"),
        client_frame(CONTINUATION, b"", fin=False),
        client_frame(CONTINUATION, "Grüße".encode()[3:]),
    ]
    assert peer.frames(b"".join(octets)) == [Frame(PONG, b"?"), Frame(TEXT, "Grüße".encode())]


def test_messages_are_logged_when_asked_for(clock: Clock) -> None:
    lines: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if "recv" in event.get("log_format", ""):
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        peer = opened(clock, log_messages=True, log_cut=5)
        peer.send(client_frame(TEXT, b"a\nb") + client_frame(BINARY, b"\x00\x01") + client_frame(TEXT, b"123456"))
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert lines == [r"#1: recv text: a\nb", r"#1: recv binary: \x00\x01", "#1: recv text: 12345… (6 octets)"]


def test_json_is_echoed_compactly(clock: Clock) -> None:
    peer = opened(clock, "/json?and=query")
    assert peer.frames(client_frame(TEXT, b'{ "a" : [1, 2 ] }')) == [Frame(TEXT, b'{"a":[1,2]}')]


@pytest.mark.parametrize(
    ("frame", "code"),
    [(client_frame(TEXT, b"nope"), 1007), (client_frame(BINARY, b"1"), 1007), (client_frame(TEXT, b"[1,1,1,1]"), 1009)],
)
def test_what_is_not_json_closes(clock: Clock, frame: bytes, code: int) -> None:
    peer = opened(clock, "/json", max_json_values=3)
    assert closed_with(peer.frames(client_frame(TEXT, b"0") + frame)) == code
    assert peer.transport.half_closed


@pytest.mark.parametrize("compression", [Compression.MIRROR, Compression.DEFLATE])
@pytest.mark.parametrize("memory", [1, 8])
def test_compressed_messages(clock: Clock, memory: int, compression: Compression) -> None:
    client, limit = Deflater(memory=memory), 100_000
    peer = opened(clock, "/", DEFLATE, max_message_size=limit, compression=compression)
    noise = random.Random(1).randbytes
    for payload in (b"", b"short", b"long" * 100, noise(63), noise(64), b"z" * limit, noise(limit)):
        octets = client_frame(BINARY, client.deflate(payload), rsv=4)
        found, _ = split(b"".join(peer.send(octets[start : start + 65536]) for start in range(0, len(octets), 65536)))
        assert [client.inflate(frame) for frame in found] == [payload]
        is_deflated = len(payload) >= 64 or compression is Compression.MIRROR
        assert found[0].rsv == (4 if is_deflated else 0), "what can't gain is not compressed"


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_message_that_inflates_over_the_limit_is_too_big(clock: Clock, pieces: int) -> None:
    peer = opened(clock, "/", DEFLATE, max_message_size=100_000)
    octets = client_frame(BINARY, Deflater().deflate(bytes(100_001)), rsv=4)
    step = len(octets) // pieces + 1
    answer = b"".join(peer.send(octets[start : start + step]) for start in range(0, len(octets), step))
    assert closed_with(split(answer)[0]) == 1009


def test_a_bomb_is_not_inflated(clock: Clock) -> None:
    peer = opened(clock, "/", DEFLATE, max_message_size=100_000)
    assert closed_with(peer.frames(client_frame(BINARY, Deflater(9).deflate(bytes(60_000_000)), rsv=4))) == 1009


def test_what_does_not_inflate_is_invalid(clock: Clock) -> None:
    peer = opened(clock, "/", DEFLATE)
    assert closed_with(peer.frames(client_frame(BINARY, b"\xff\xff\xff", rsv=4))) == 1007


def test_compression_can_be_off(clock: Clock) -> None:
    assert b"Extensions" not in Peer(make_factory(clock, compression=Compression.OFF)).open("/", DEFLATE)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (client_frame(BINARY, bytes(1001)), 1009),
        (client_frame(BINARY, bytes(1000), fin=False) + client_frame(CONTINUATION, b"x"), 1009),
        (client_frame(BINARY, b"", claim=2**30), 1009),
        (client_frame(BINARY, b"", claim=2**63 - 1), 1009),
        (client_frame(BINARY, b"", claim=2**63), 1002),
        (client_frame(TEXT, b"", fin=False) + client_frame(CONTINUATION, b"", fin=False) * 10, 1008),
        (client_frame(PING, b"", claim=2**20), 1002),
        (client_frame(TEXT, b"x", mask=None), 1002),
        (client_frame(TEXT, b"x", rsv=1), 1002),
        (client_frame(3, b"x"), 1002),
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(TEXT, b"\xff"), 1007),
        (client_frame(CLOSE, close_payload(1005)), 1002),
        (client_frame(CLOSE, close_payload(1000) + b"\xff"), 1007),
        (client_frame(CLOSE, b"x"), 1002),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_over_a_limit_or_wrong_fails_the_connection(clock: Clock, octets: bytes, code: int) -> None:
    peer = opened(clock, max_message_size=1000, max_fragments=10)
    answer = peer.frames(client_frame(TEXT, b"before") + octets + client_frame(TEXT, b"behind"))
    assert answer[0] == Frame(TEXT, b"before")
    assert closed_with(answer) == code
    assert len(answer) == 2
    assert peer.transport.half_closed
    assert peer.send(client_frame(TEXT, b"later")) == b""


def test_fragments_are_counted_for_each_message(clock: Clock) -> None:
    peer = opened(clock, max_fragments=3)
    message = (
        client_frame(TEXT, b"a", fin=False)
        + client_frame(CONTINUATION, b"b", fin=False)
        + client_frame(CONTINUATION, b"c")
    )
    assert peer.frames(message * 5) == [Frame(TEXT, b"abc")] * 5


def test_no_answer_follows_our_close_frame(peer: Peer) -> None:
    peer.protocol.begin_close(1000, "")
    assert closed_with(split(peer.take())[0]) == 1000
    peer.protocol.answer(b"late", False, is_plain=True)
    assert peer.take() == b""

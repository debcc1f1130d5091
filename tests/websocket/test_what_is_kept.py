"""What a connection's account says, against what Python's allocator says was kept.

In each situation a connection stands still with something that it keeps. Then it goes on to the end, and the account is
empty.
"""

from __future__ import annotations

import gc
import random
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from echod.core.quantities import KIB
from echod.echo import EchoProtocol
from echod.lane.native import Native
from tests.fakes import Peer, Transport, make_factory
from tests.frames import (
    BINARY,
    CONTINUATION,
    DEFLATE,
    PING,
    TEXT,
    client_frame,
    deflated_octets,
    handshake,
)
from tests.loop import bed

OVERHEAD = 6 * KIB
"""Bytes of the objects around what is kept: heads of buffers, generators, queues, the growth of a dictionary."""

NOISE = random.Random(1).randbytes(1000 * KIB)

CONTINUED = client_frame(CONTINUATION, b"")

Step = Callable[[Peer], object]


def send(octets: bytes) -> Step:
    """Send a copy, so that its memory is allocated while the allocator is watched."""
    return lambda peer: peer.protocol.dataReceived(bytes(bytearray(octets)))


def deflated(payload: bytes) -> bytes:
    return deflated_octets(payload, zlib.compressobj(wbits=-15))


def account_of(peer: Peer) -> dict[str, int]:
    """Return what the connection keeps, by what it is, without what is 0."""
    account = peer.protocol.account
    return {entry: octets for entry in account.__slots__ if (octets := getattr(account, entry))}


def work_until(*entries: str) -> Step:
    """Let the connection work until exactly these entries are not 0."""

    def step(peer: Peer) -> None:
        for _ in range(2000):
            if {*account_of(peer)} == {*entries}:
                return
            peer.protocol.take_turn()
        raise AssertionError(account_of(peer))

    return step


LONG = client_frame(BINARY, NOISE[: 400 * KIB])

LONG_DEFLATED = client_frame(BINARY, deflated(NOISE[: 400 * KIB]), rsv=4)

SITUATIONS: dict[str, tuple[str, list[Step], list[Step]]] = {
    "half of a head": ("", [send(handshake()[:-2] + b"X: " + b"a" * 8000), work_until("head")], [send(b"\r\n\r\n")]),
    "half of a message": (
        "/",
        [send(client_frame(BINARY, NOISE[: 300 * KIB], fin=False)), work_until("message")],
        [send(CONTINUED)],
    ),
    "half of a frame": ("/", [send(LONG[:-1]), work_until("message")], [send(LONG[-1:])]),
    "half of a deflated message": (
        "/",
        [
            send(client_frame(BINARY, deflated(NOISE[: 200 * KIB]), rsv=4, fin=False)),
            work_until("deflated", "message"),
        ],
        [send(CONTINUED)],
    ),
    "pings that are put off": ("/", [send(client_frame(PING, b"x" * 100) * 600), work_until("put_off")], []),
    "messages that Autobahn was fed and has to leave": (
        "/",
        [send(client_frame(BINARY, b"x" * 8) * 3000), work_until("put_off", "unparsed")],
        [],
    ),
    "what TLS has read ahead": (
        "/",
        [
            send(client_frame(PING, b"x" * 100) * 100),
            *[send(client_frame(PING, b"y" * 120) * 8) for _ in range(200)],
            work_until("put_off", "read_ahead"),
        ],
        [],
    ),
    "JSON that is looked at": (
        "/json",
        [send(client_frame(TEXT, b"[" + b"1," * 30_000 + b"1]")), work_until("tasks")],
        [],
    ),
    "an answer in thousands of frames": ("/?fragment=50", [send(LONG), work_until("tasks")], []),
    "a deflated answer in thousands of frames": (
        "/?fragment=50",
        [send(LONG_DEFLATED), work_until("tasks", "answer")],
        [],
    ),
    "an answer that is deflated": (
        "/?compression=deflate",
        [send(LONG_DEFLATED), work_until("tasks", "deflated"), *[lambda peer: peer.protocol.take_turn()] * 5],
        [],
    ),
    "delayed echoes": (
        "/?delay=1s",
        [*[send(client_frame(BINARY, NOISE[: 3 * KIB])) for _ in range(50)], work_until("delayed")],
        [],
    ),
    "late pongs": (
        "/?pong=1s",
        [*[send(client_frame(PING, NOISE[:100]) * 5) for _ in range(40)], work_until("replies")],
        [],
    ),
}
"""What the URL asks for, the steps into the situation, and the steps out of it."""


@pytest.fixture(autouse=True)
def _short_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a connection work for one slice at a time."""
    monkeypatch.setattr("echod.core.turns.SHARE", 0)


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def kept() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("name", SITUATIONS)
def test_the_account_says_what_is_kept(clock: Clock, name: str) -> None:
    target, begin, end = SITUATIONS[name]
    peer = Peer(make_factory(clock, max_buffered=2**30, ping_interval=0, max_delayed=2**20))
    peer.transport.write = lambda _: None  # type: ignore[method-assign]
    if target:
        offers = [DEFLATE] if "deflate" in name else []
        peer.protocol.dataReceived(handshake(target, *offers))
        assert peer.protocol.is_established
        # Once, so that what each connection has at rest is there.
        peer.protocol.dataReceived(client_frame(TEXT, b'""'))
        clock.pump([0.01] * 200)
    assert peer.protocol.account.total == 0
    before = kept()
    for step in begin:
        step(peer)
    real, said = kept() - before, peer.protocol.account.total
    assert said > KIB
    # A bytearray that grows takes an eighth more.
    assert said - OVERHEAD <= real <= said * 9 / 8 + OVERHEAD, account_of(peer)
    for step in end:
        step(peer)
    clock.pump([0.01] * 3000)
    assert account_of(peer) == {}
    assert kept() - before < (80 * KIB if "deflate" in name else 2 * OVERHEAD), "but for what it has at rest"
    peer.lose()


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("said", [b"", client_frame(TEXT, b"hello")], ids=["silent", "after a message"])
def test_an_idle_connection_takes_less_than_two_kib(clock: Clock, said: bytes) -> None:
    """Everything counts except the transport. No account has what a thousand connections hold at rest."""
    factory, count = make_factory(clock, max_connections=1000), 200
    transports = [Transport() for _ in range(2 * count)]

    def connect(transport: Transport) -> EchoProtocol:
        connection = cast(EchoProtocol, factory.buildProtocol(None))
        connection.makeConnection(cast(Any, transport))
        connection.dataReceived(handshake())
        if said:
            connection.dataReceived(said)
        transport.clear()
        return connection

    connections = [connect(transport) for transport in transports[:count]]
    before = kept()
    connections += [connect(transport) for transport in transports[count:]]
    assert (kept() - before) / count < 2 * KIB


@pytest.mark.usefixtures("traced")
@pytest.mark.parametrize("size", [0, 100, 1000])
def test_the_frames_of_a_traced_connection_count(clock: Clock, size: int) -> None:
    peer = Peer(make_factory(clock, log_frames=True, log_frames_rate=1, kept_frames=40, ping_interval=0))
    peer.transport.write = lambda _: None  # type: ignore[method-assign]
    peer.protocol.dataReceived(handshake())
    account = cast(Any, peer.protocol.account)

    def echo(octets: bytes) -> None:
        send(client_frame(BINARY, octets))(peer)
        while peer.protocol.is_behind:
            peer.protocol.take_turn()

    for _ in range(2):
        echo(NOISE[:2000])
    before, said = kept(), account.frames
    for place in range(100):
        echo(NOISE[place : place + size])
    real, said = kept() - before, account.frames - said
    assert account.total == account.frames
    assert said - OVERHEAD <= real <= said + OVERHEAD
    peer.lose()
    assert account.total == 0


def test_a_large_frame_counts_what_its_buffer_takes(native: Native) -> None:
    """Python does not allocate the codec's buffer. Those of its pages count that were written to, or that were part of
    another buffer before."""
    with bed(native) as made:
        connection = made.link().protocol
        connection.take_back()
        connection.dataReceived(client_frame(BINARY, NOISE)[: 500 * KIB])
        assert 400 * KIB < connection.account.message < len(NOISE) + KIB
        assert connection.account.total == connection.account.message
        connection.sendCloseFrame(1000)
        assert connection.account.message > 400 * KIB, "the rest of the frame comes before the peer's Close frame"
        connection.dataReceived(client_frame(BINARY, NOISE)[500 * KIB :])
        assert connection.account.total == 0

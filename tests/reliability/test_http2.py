"""HTTP/2 under the worst that clients can do: the daemon's memory, and how this affects an honest client.

Growth is the peak of the resident memory minus that of the idle daemon, after one connection has done once everything
that follows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial

import pytest
from h2.errors import ErrorCodes
from h2.exceptions import StreamClosedError
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
)

from echod.http.h2.frames import GOAWAY
from tests import frames
from tests.h2_client import Http2Client
from tests.h2_socket import Connection
from tests.reliability.conftest import Figure, Form
from tests.reliability.daemon import KIB, MIB, Daemon
from tests.reliability.honest import Honest, percentile

STREAMS = 100
"""The daemon's default limit for one connection."""

STALL = 0.5
"""Seconds without a byte, either way, after which a client that opens no window stops sending."""


def connect(stack: ExitStack, daemon: Daemon, client: Http2Client | None = None) -> Connection:
    """Open a connection, and wait for the server's settings."""
    made = Connection(daemon.address, is_tls=False, client=client)
    stack.enter_context(closing(made.socket))
    made.until(made.client.says_connect)
    return made


def push(made: Connection, numbers: list[int], message: bytes) -> None:
    """Send messages on these streams as far as their windows and the socket allow. On a busy machine this takes so long
    that the full daemon ends some of the streams meanwhile."""
    made.socket.settimeout(STALL)
    left = dict.fromkeys(numbers, b"")
    with suppress(TimeoutError):
        while left:
            for number in list(left):
                try:
                    left[number] = made.client.send_some(number, left[number] or message)
                except StreamClosedError:
                    del left[number]
            made.socket.sendall(made.client.to_send())
            made.client.take(made.socket.recv(64 * KIB))


@pytest.mark.parametrize("size", [0, 64 * KIB], ids=["empty messages", "64 KiB"])
def test_streams_whose_clients_open_no_window(size: int, form: Form, figure: Figure) -> None:
    message = frames.client_frame(frames.BINARY, bytes(size)) * (1 if size else 1000)
    limit = form.pick(256, 64) * MIB
    with Daemon(f"--max-buffered={limit}") as daemon, ExitStack() as stack:

        def talk(streams: int) -> None:
            made = connect(stack, daemon, Http2Client(opens_windows=False))
            push(made, [made.open() for _ in range(streams)], message)

        talk(1)
        idle = daemon.memory()
        daemon.reset_peak()
        for _ in range(form.pick(40, 10)):
            talk(STREAMS)
        daemon.wait_until_it_rests()
        growth = daemon.peak() - idle
    name = f"growth, HTTP/2 streams without windows, messages of {size // KIB} KiB"
    figure(name, growth / MIB, limit / MIB + 32, "MiB")


def endless(frame: Frame) -> Iterator[bytes]:
    """Yield the same frame without end."""
    octets = frame.serialize()
    while True:
        yield octets


def rapid_resets() -> Iterator[bytes]:
    """Yield requests that are reset at once (CVE-2023-44487)."""
    encoder = Encoder()
    encoder.header_table_size = 0
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), (":path", "/")]
    for number in range(1, 2**31, 2):
        request = HeadersFrame(number, encoder.encode(fields), flags=["END_HEADERS", "END_STREAM"])
        yield request.serialize() + RstStreamFrame(number, ErrorCodes.CANCEL).serialize()


def many_settings() -> Iterator[bytes]:
    """Yield settings that nobody knows, each of which is kept (CVE-2020-11080)."""
    for first in range(16, 65536, 10_000):
        yield SettingsFrame(0, dict.fromkeys(range(first, min(first + 10_000, 65536)), 1)).serialize()


def continuations() -> Iterator[bytes]:
    """Yield a header list without an end (CVE-2024-27316)."""
    yield HeadersFrame(1, b"\x82").serialize()
    yield from endless(ContinuationFrame(1, b""))


def bombs() -> Iterator[bytes]:
    """Yield header lists in which one byte refers to a field of 4,000 bytes (CVE-2016-6581)."""
    for number in range(1, 2**31, 2):
        bomb = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 12_000
        yield HeadersFrame(number, bomb, flags=["END_HEADERS", "END_STREAM"]).serialize()


def goaway_of(made: Connection) -> int | None:
    """Return the code of the GOAWAY with which the server ends a connection. h2's client would end before, at the
    answers to what it has not sent."""
    octets = b""
    while received := made.socket.recv(64 * KIB):
        octets += received
    code = None
    while octets:
        size = 9 + int.from_bytes(octets[:3])
        if octets[3] == GOAWAY:
            code = int.from_bytes(octets[13:17])
        octets = octets[size:]
    return code


FLOODS: dict[str, Callable[[], Iterator[bytes]]] = {
    "resets": rapid_resets,
    "pings": lambda: endless(PingFrame(0, b"12345678")),
    "settings": lambda: endless(SettingsFrame(0)),
    "unknown settings": many_settings,
    "priorities": lambda: endless(PriorityFrame(1)),
    "empty frames": lambda: endless(DataFrame(1, b"")),
    "continuations": continuations,
    "bombs": bombs,
}


@pytest.mark.parametrize("kind", FLOODS)
def test_floods(kind: str, form: Form, figure: Figure) -> None:
    count, size = form.pick(100, 20), 256 * KIB
    octets = bytearray()
    for piece in FLOODS[kind]():
        octets += piece
        if len(octets) >= size:
            break
    with Daemon() as daemon:

        def flood() -> int | None:
            with ExitStack() as stack:
                made = connect(stack, daemon)
                if kind == "empty frames":
                    made.open("/?abort")
                with suppress(ConnectionError):
                    made.socket.sendall(octets)
                return goaway_of(made)

        flood()
        idle = daemon.memory()
        daemon.reset_peak()
        with Honest(daemon.address) as honest:
            assert {flood() for _ in range(count)} == {ErrorCodes.ENHANCE_YOUR_CALM}
        growth = daemon.peak() - idle
    figure(f"growth, HTTP/2 floods: {kind}", growth / MIB, 8, "MiB")
    figure("honest client's p99 meanwhile", percentile(honest.times, 99) * 1000, 250, "ms")


def test_connections_that_have_had_many_streams(form: Form, figure: Figure) -> None:
    """One stream of each stays open, so that the connection does."""
    count = form.pick(500, 100)
    with Daemon() as daemon, ExitStack() as stack:

        def talk() -> None:
            made = connect(stack, daemon)
            made.socket.sendall(SettingsFrame(0, dict.fromkeys(range(100, 120), 1)).serialize())
            made.open()
            for _ in range(2):
                numbers = [made.client.request(path="/healthz") for _ in range(STREAMS - 1)]
                made.until(partial(made.client.ended.issuperset, numbers))

        talk()
        idle = daemon.memory()
        for _ in range(count):
            talk()
        growth = daemon.memory() - idle
    figure("memory of an HTTP/2 connection with one stream, after 198 others", growth / count / KIB, 72, "KiB")

"""The load generator notices everything that an echo server can do wrong, and accepts everything that it may do.

A generator that overlooks wrong bytes would favour the fastest wrong server. So these tests run it against servers
that each make one mistake. The server is a few lines on a blocking socket, and no WebSocket library, because a library
could not make the mistakes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from benchmarks import build
from benchmarks.columns import COLUMNS, Column
from benchmarks.measure import features
from tests import frames
from tests.frames import BINARY, CLOSE, PING, PONG, TEXT
from tests.ports import held_port
from tests.tools import give_up

FIN, RSV1, MASKED = 0x80, 0x40, 0x80
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TAIL = b"\x00\x00\xff\xff"
TIMEOUT = 30.0
"""Time limit in seconds for a hanging test. Everything here takes less than a tenth of it."""


@dataclass(frozen=True)
class Frame:
    """One client frame, unmasked."""

    first: int
    mask: bytes
    payload: bytes

    @property
    def opcode(self) -> int:
        """The opcode (RFC 6455 section 5.2)."""
        return self.first & 0x0F


def server_frame(first: int, payload: bytes) -> bytes:
    """Return an unmasked frame."""
    return frames.server_frame(first & 0x0F, payload, fin=bool(first & FIN), rsv=first >> 4 & 7)


def echo(frame: Frame, _number: int) -> bytes:
    """Answer without a mistake: with the same frame."""
    return server_frame(frame.first, frame.payload)


def pong(frame: Frame, _number: int) -> bytes:
    """Answer a ping as one must (RFC 6455 section 5.5.2)."""
    return server_frame(FIN | PONG, frame.payload)


Answer = Callable[[Frame, int], bytes]


@dataclass
class EchoServer:
    """A server that answers each data frame with ``answer(frame, number)``, right or wrong. It keeps what it
    received."""

    answer: Answer = echo
    accept: bytes | None = None
    extensions: str = ""
    greeting: bytes = b""
    tls: ssl.SSLContext | None = None
    frames: list[Frame] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=128))
    threads: list[threading.Thread] = field(default_factory=list)

    @property
    def port(self) -> int:
        """The port on which the server listens."""
        return int(self.listener.getsockname()[1])

    def serve(self) -> None:
        """Accept connections until the listener is closed."""
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                connection.settimeout(TIMEOUT)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                thread = threading.Thread(target=self.serve_one, args=(connection,))
                self.threads.append(thread)
                thread.start()

    def serve_one(self, connection: socket.socket) -> None:
        """Serve one connection until the client leaves. A generator that has found a fault may reset it."""
        with suppress(OSError, EOFError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            self.converse(connection)

    def converse(self, connection: socket.socket) -> None:
        """Make the opening handshake, then answer each frame."""
        with connection, connection.makefile("rb") as stream:
            connection.sendall(self.shake_hands(stream.readline, self.requests) + self.greeting)
            number = 0
            while True:
                frame = read_frame(stream.read)
                self.frames.append(frame)
                if frame.opcode == CLOSE:
                    connection.sendall(server_frame(frame.first, frame.payload))
                    return
                if frame.opcode != PONG:
                    connection.sendall(self.answer(frame, number))
                    number += 1

    def shake_hands(self, readline: Callable[[], bytes], requests: list[bytes]) -> bytes:
        """Return the response to the opening handshake."""
        request = b""
        while not request.endswith(b"\r\n\r\n"):
            line = readline()
            if not line:
                raise EOFError
            request += line
        requests.append(request)
        key = next(line.split()[1] for line in request.splitlines() if line.lower().startswith(b"sec-websocket-key:"))
        accept = self.accept or base64.b64encode(hashlib.sha1(key + GUID).digest())
        head = f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{self.extensions}"
        return head.encode() + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"


class Pinger(EchoServer):
    """A server that sends a ping for each frame that it gets, and one at the beginning."""

    def converse(self, connection: socket.socket) -> None:
        """Make the opening handshake, and ping until the client closes."""
        with connection, connection.makefile("rb") as stream:
            connection.sendall(self.shake_hands(stream.readline, self.requests))
            frame = None
            while frame is None or frame.opcode != CLOSE:
                connection.sendall(server_frame(FIN | PING, b"are you there"))
                frame = read_frame(stream.read)
                self.frames.append(frame)
            connection.sendall(server_frame(FIN | CLOSE, frame.payload))


def read_frame(read: Callable[[int], bytes]) -> Frame:
    """Read one masked frame. A client must mask (RFC 6455 section 5.1)."""

    def exactly(size: int) -> bytes:
        octets = read(size)
        if len(octets) < size:
            raise EOFError
        return octets

    first, second = exactly(2)
    assert second & MASKED
    size = second & 0x7F
    if size >= 126:
        size = int.from_bytes(exactly(2 if size == 126 else 8), "big")
    mask, payload = exactly(4), exactly(size)
    plain = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return Frame(first, mask, plain.to_bytes(size, "big"))


Start = Callable[[EchoServer], EchoServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a server. The servers end with the test."""
    servers: list[EchoServer] = []
    threads: list[threading.Thread] = []

    def begin(server: EchoServer) -> EchoServer:
        servers.append(server)
        threads.append(threading.Thread(target=server.serve))
        threads[-1].start()
        return server

    yield begin
    for server in servers:
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
    for thread in threads + [thread for server in servers for thread in server.threads]:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


def generator(features: frozenset[str] = frozenset()) -> str:
    """Return the program's path. Without its compiler or libraries the test is skipped, or fails if nothing may be
    missing."""
    try:
        return str(build.load_generator(features))
    except build.Unavailable as reason:
        give_up(str(reason))


def small(column: Column) -> Column:
    """Return the same kind of traffic on few connections and at a low rate."""
    limits = {"connections": 20, "idle": 2, "stay": 2, "rate": 50}
    return replace(column, **{name: min(getattr(column, name), most) for name, most in limits.items()})


def load(server: EchoServer, *options: str, features: frozenset[str] = frozenset()) -> dict[str, float | str]:
    """Run the generator for a moment, and return its result."""
    command = [generator(features), "--port", str(server.port), "--seconds", "0.5", "--warmup", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    outcome: dict[str, float | str] = json.loads(done.stdout)
    assert (done.returncode == 0) == ("error" not in outcome), done
    return outcome


def fault(server: EchoServer, *options: str, features: frozenset[str] = frozenset()) -> str:
    """Return the generator's complaint. It comes at once, so the seconds are only for a busy machine."""
    return str(load(server, "--seconds", "10", *options, features=features)["error"])


DEFLATE = frozenset({"deflate"})
NO_TAKEOVER = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"


def once(number: int, mistake: Callable[[Frame], bytes]) -> Answer:
    """Return the answers of a server that is right except for one answer."""
    return lambda frame, n: mistake(frame) if n == number else echo(frame, n)


def whole(answer: Callable[[bytes], bytes]) -> Answer:
    """Return the answers of a server that gathers the fragments of each message. It serves one connection."""
    parts: list[bytes] = []

    def gather(frame: Frame, _number: int) -> bytes:
        parts.append(frame.payload)
        if not frame.first & FIN:
            return b""
        payload = b"".join(parts)
        parts.clear()
        return answer(payload)

    return gather


def flipped(payload: bytes, at: int) -> bytes:
    """Return the payload with one bit changed."""
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


# Correct servers pass.


def test_a_right_server_passes_and_its_messages_are_counted(start: Start) -> None:
    server = start(EchoServer())
    outcome = load(server, "--connections", "3", "--in-flight", "2")
    data = [frame for frame in server.frames if frame.opcode == TEXT]
    assert outcome["errors"] == 0
    assert 0 < float(outcome["messages"]) <= len(data)
    assert 0 < float(outcome["p50"]) <= float(outcome["p90"]) <= float(outcome["p99"]) <= float(outcome["max"])


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_every_length_form_passes(start: Start, size: int) -> None:
    assert load(start(EchoServer()), "--size", str(size), "--kind", "binary")["errors"] == 0


def test_a_fragmented_answer_passes(start: Start) -> None:
    def in_three(frame: Frame, _number: int) -> bytes:
        parts = [
            server_frame(frame.opcode, frame.payload[:5]),
            server_frame(0, b""),
            server_frame(FIN, frame.payload[5:]),
        ]
        return b"".join(parts)

    assert load(start(EchoServer(in_three)))["errors"] == 0


def test_a_ping_between_the_fragments_of_an_answer_is_answered(start: Start) -> None:
    def with_ping(frame: Frame) -> bytes:
        return (
            server_frame(TEXT, frame.payload[:3])
            + server_frame(FIN | PING, b"are you there")
            + server_frame(FIN, frame.payload[3:])
        )

    server = start(EchoServer(once(1, with_ping)))
    assert load(server)["errors"] == 0
    assert [frame.payload for frame in server.frames if frame.opcode == PONG] == [b"are you there"]


def test_an_idle_connection_answers_pings(start: Start) -> None:
    server = start(EchoServer(greeting=server_frame(FIN | PING, b"idle")))
    assert load(server, "--idle", "2")["errors"] == 0
    assert [frame.payload for frame in server.frames if frame.opcode == PONG] == [b"idle"] * 3


# What the generator sends.


def messages(frames: list[Frame], opcode: int) -> list[bytes]:
    """Return the payloads of unfragmented messages without repetitions."""
    return list(dict.fromkeys(frame.payload for frame in frames if frame.first == FIN | opcode))


def test_text_is_valid_and_of_the_size_asked_for(start: Start) -> None:
    server = start(EchoServer())
    load(server, "--kind", "multibyte", "--size", "1001")
    said = messages(server.frames, TEXT)
    assert len(said) > 3
    assert {len(payload) for payload in said} == {1001}
    assert {len(character.encode()) for payload in said for character in payload.decode()} == {1, 2, 3, 4}


def test_masks_are_real_and_differ(start: Start) -> None:
    server = start(EchoServer())
    load(server)
    masks = {frame.mask for frame in server.frames if frame.opcode == TEXT}
    assert len(masks) > 3
    assert all(0 not in mask for mask in masks)


def test_messages_are_fragmented_as_asked(start: Start) -> None:
    server = start(EchoServer(whole(partial(server_frame, FIN | BINARY))))
    assert load(server, "--kind", "binary", "--size", "4096", "--fragments", "4")["errors"] == 0
    assert [frame.first for frame in server.frames[:4]] == [BINARY, 0, 0, FIN]
    assert {len(frame.payload) for frame in server.frames if frame.opcode != CLOSE} == {1024}


def test_a_paced_run_keeps_its_rate(start: Start) -> None:
    outcome = load(start(EchoServer()), "--mode", "latency", "--rate", "200", "--seconds", "2", "--connections", "4")
    # A busy machine costs some messages. A rate for each connection would make 1600 of them, a quarter of the rate 100.
    assert 110 <= float(outcome["messages"]) <= 410


def test_requests_differ_in_the_key_and_as_behind_a_proxy_in_more(start: Start) -> None:
    plain, proxied = start(EchoServer()), start(EchoServer())
    load(plain, "--mode", "opens")
    load(proxied, "--mode", "opens", "--proxied")
    assert 1 < len(set(plain.requests)) < len(plain.requests)
    assert len({re.sub(rb"Key: \S+", b"", request) for request in plain.requests}) == 1
    assert len(set(proxied.requests)) == len(proxied.requests)
    assert all(request.count(b"\r\nX-Request-Id: ") == 1 for request in proxied.requests)


def test_each_ping_is_a_message_of_the_script_and_is_counted(start: Start) -> None:
    server = start(EchoServer(pong))
    outcome = load(server, "--mode", "pings", "--connections", "2", "--size", "125")
    pings = [frame for frame in server.frames if frame.first == FIN | PING]
    assert 0 < float(outcome["messages"]) <= len(pings)
    assert len({frame.payload for frame in pings}) > 3
    assert {len(frame.payload) for frame in pings} == {125}
    assert 0 < float(outcome["p50"]) <= float(outcome["max"])


def test_the_pings_of_the_server_are_counted_and_answered(start: Start) -> None:
    server = start(Pinger())
    outcome = load(server, "--mode", "pinged", "--connections", "2")
    pongs = [frame.payload for frame in server.frames if frame.opcode == PONG]
    assert 0 < float(outcome["messages"]) <= len(pongs)
    assert set(pongs) == {b"are you there"}


STORM = ["--mode", "storm", "--stay", "2", "--rate", "100", "--connections", "5", "--warmup", "0.3"]


def test_in_a_storm_each_client_comes_back_once_and_gets_one_answer(start: Start) -> None:
    server = start(EchoServer())
    outcome = load(server, *STORM)
    assert outcome["messages"] == 5
    assert len(server.requests) == 2 + 5 + 5
    assert len([frame for frame in server.frames if frame.opcode == CLOSE]) == 2 + 5


def test_those_who_stay_see_what_a_storm_does_to_the_server(start: Start) -> None:
    one_by_one = threading.Lock()

    def stall(frame: Frame, number: int) -> bytes:
        with one_by_one:
            if number == 0 and len(server.requests) > 2 + 5:
                time.sleep(0.1)
        return echo(frame, number)

    server = start(EchoServer(stall))
    outcome = load(server, *STORM)
    assert float(outcome["seconds"]) >= 0.5
    assert float(outcome["max"]) >= 100_000


def test_a_client_that_is_not_served_again(start: Start) -> None:
    def forget(frame: Frame, number: int) -> bytes:
        return b"" if number == 0 and len(server.requests) > 2 + 5 else echo(frame, number)

    server = start(EchoServer(forget))
    assert "missing" in fault(server, *STORM, "--patience", "1")


def test_opens_are_counted_and_closed_with_a_handshake(start: Start) -> None:
    server = start(EchoServer())
    outcome = load(server, "--mode", "opens", "--echo", "--connections", "2")
    assert 0 < float(outcome["messages"]) <= len(server.requests)
    assert len([frame for frame in server.frames if frame.opcode == CLOSE]) == len(server.requests)


def test_held_connections_wait_for_the_word_to_go_on(start: Start) -> None:
    server = start(EchoServer())
    command = [generator(), "--port", str(server.port), "--mode", "hold", "--connections", "5", "--echo", "--pause"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        assert len(server.requests) == 5
        assert len([frame for frame in server.frames if frame.opcode == TEXT]) == 5
        words, _ = process.communicate("\n", timeout=TIMEOUT)
    assert json.loads(words)["errors"] == 0


# Mistakes are noticed.


@pytest.mark.parametrize("at", [0, 7, 15])
def test_one_wrong_bit(start: Start, at: int) -> None:
    server = start(EchoServer(once(2, lambda frame: server_frame(frame.first, flipped(frame.payload, at)))))
    assert f"at {at} of 16" in fault(server)


def test_one_wrong_bit_in_a_large_message(start: Start) -> None:
    server = start(EchoServer(once(1, lambda frame: server_frame(frame.first, flipped(frame.payload, 999_999)))))
    assert "at 999999 of 1048576" in fault(server, "--size", "1048576", "--kind", "binary")


def test_a_text_answered_as_binary(start: Start) -> None:
    server = start(EchoServer(once(2, lambda frame: server_frame(FIN | BINARY, frame.payload))))
    assert "wrong opcode: 2 instead of 1" in fault(server)


def test_a_missing_message(start: Start) -> None:
    assert "missing message" in fault(start(EchoServer(once(2, lambda _frame: b""))))


def test_a_missing_message_among_others_in_flight(start: Start) -> None:
    assert "wrong octet" in fault(start(EchoServer(once(2, lambda _frame: b""))), "--in-flight", "4")


def test_a_message_missing_on_one_connection_of_many(start: Start) -> None:
    lock = threading.Lock()
    swallowed: list[Frame] = []

    def swallow_first(frame: Frame, number: int) -> bytes:
        with lock:
            if not swallowed:
                swallowed.append(frame)
                return b""
        return echo(frame, number)

    assert "missing message" in fault(start(EchoServer(swallow_first)), "--connections", "4", "--seconds", "1")


def test_a_doubled_answer(start: Start) -> None:
    assert fault(start(EchoServer(once(2, lambda frame: echo(frame, 2) * 2))))


def test_swapped_answers(start: Start) -> None:
    kept: list[bytes] = []

    def swap(frame: Frame, number: int) -> bytes:
        kept.append(echo(frame, number))
        return b"" if number == 0 else kept.pop() + (kept.pop() if kept else b"")

    assert "wrong octet" in fault(start(EchoServer(swap)), "--in-flight", "2")


def test_a_short_answer(start: Start) -> None:
    assert "too short" in fault(start(EchoServer(once(2, lambda frame: server_frame(frame.first, frame.payload[:-1])))))


def test_a_long_answer(start: Start) -> None:
    assert "too long" in fault(
        start(EchoServer(once(2, lambda frame: server_frame(frame.first, frame.payload + b"x"))))
    )


def test_half_an_answer(start: Start) -> None:
    assert "missing message" in fault(
        start(EchoServer(once(2, lambda frame: server_frame(frame.first, frame.payload)[:9])))
    )


def test_a_message_that_nobody_asked_for(start: Start) -> None:
    assert fault(start(EchoServer(greeting=server_frame(FIN | TEXT, b"welcome"))), "--idle", "1")


def test_a_masked_answer(start: Start) -> None:
    server = start(EchoServer(once(0, lambda frame: struct.pack(">BB4x", frame.first, MASKED | 16) + frame.payload)))
    assert "masked" in fault(server)


@pytest.mark.parametrize("bit", [0x40, 0x20, 0x10])
def test_a_reserved_bit(start: Start, bit: int) -> None:
    assert fault(start(EchoServer(once(0, lambda frame: server_frame(frame.first | bit, frame.payload)))))


def test_a_length_that_is_not_in_its_shortest_form(start: Start) -> None:
    server = start(EchoServer(once(0, lambda frame: struct.pack(">BBH", frame.first, 126, 16) + frame.payload)))
    assert "shortest form" in fault(server)


def test_a_close_that_nobody_asked_for(start: Start) -> None:
    server = start(EchoServer(once(2, lambda _frame: server_frame(FIN | CLOSE, b"\x03\xe9"))))
    assert "code 1001" in fault(server)


def test_a_wrong_accept_value(start: Start) -> None:
    assert "Sec-WebSocket-Accept" in fault(start(EchoServer(accept=b"x" * 28)))


def test_the_accept_value_of_another_connection(start: Start) -> None:
    server = EchoServer()
    first = threading.Event()

    def remember(frame: Frame, number: int) -> bytes:
        if not first.is_set():
            key = re.search(rb"Key: (\S+)", server.requests[0])
            assert key is not None
            server.accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
            first.set()
        return echo(frame, number)

    server.answer = remember
    assert "Sec-WebSocket-Accept" in fault(start(server), "--mode", "opens", "--echo")


def test_an_extension_that_was_not_offered(start: Start) -> None:
    assert "not offered" in fault(start(EchoServer(extensions=NO_TAKEOVER)))


@pytest.mark.parametrize("change", [lambda payload: flipped(payload, 15), lambda payload: payload[:-1]])
def test_a_pong_that_is_not_that_of_the_ping(start: Start, change: Callable[[bytes], bytes]) -> None:
    server = start(EchoServer(lambda frame, _: server_frame(FIN | PONG, change(frame.payload))))
    assert "wrong pong" in fault(server, "--mode", "pings")


def test_a_missing_pong(start: Start) -> None:
    server = start(EchoServer(lambda frame, number: b"" if number == 2 else pong(frame, number)))
    assert "missing message" in fault(server, "--mode", "pings", "--patience", "1")


def test_no_server() -> None:
    with held_port() as port:
        done = subprocess.run(
            [generator(), "--port", str(port)], capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    assert "is the server there" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mode", "storm", "--rate", "10"], "needs --stay"),
        (["--mode", "storm", "--stay", "1"], "need --rate"),
        (["--stay", "1"], "no other mode has it"),
        ([*STORM, "--idle", "1"], "has no --idle"),
        (["--mode", "pings", "--size", "126"], "at most 125 octets"),
        (["--deflate", "browser"], "only with --mode opens or hold"),
    ],
)
def test_options_that_do_not_go_together(start: Start, options: list[str], words: str) -> None:
    server = start(EchoServer())
    assert words in fault(server, *options)
    assert not server.requests


@pytest.mark.parametrize("column", [pytest.param(column, id=column.key) for column in COLUMNS if not column.tls])
def test_the_options_of_each_column_go_together(column: Column) -> None:
    command = generator(features(column))
    with held_port() as port:
        options = ["--port", str(port), *small(column).arguments(0.1, 0.0)]
        done = subprocess.run([command, *options], capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert "is the server there" in json.loads(done.stdout)["error"]


def test_only_loopback_is_loaded(start: Start) -> None:
    assert "127.0.0.0/8" in fault(start(EchoServer()), "--host", "192.0.2.1")


# permessage-deflate.


def repack(payload: bytes, change: Callable[[bytes], bytes] = bytes) -> bytes:
    """Inflate a message, change it, and compress it again at a different level than the generator's."""
    plain = zlib.decompressobj(-15).decompress(payload + TAIL)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (packer.compress(change(plain)) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


def packed_frame(payload: bytes) -> bytes:
    """Return a compressed text message in one frame."""
    return server_frame(FIN | RSV1 | TEXT, payload)


@pytest.mark.parametrize("fragments", ["1", "3"])
def test_compressed_messages_and_other_compressed_answers_pass(start: Start, fragments: str) -> None:
    outcome = load(
        start(EchoServer(whole(lambda payload: packed_frame(repack(payload))), extensions=NO_TAKEOVER)),
        *("--deflate", "no-takeover", "--size", "1024", "--fragments", fragments),
        features=DEFLATE,
    )
    assert outcome["errors"] == 0
    assert outcome["packed"] == outcome["messages"]


def test_a_compressed_answer_with_one_wrong_bit(start: Start) -> None:
    def wrong(frame: Frame) -> bytes:
        return packed_frame(repack(frame.payload, lambda plain: flipped(plain, 500)))

    server = start(EchoServer(once(2, wrong), extensions=NO_TAKEOVER))
    assert "wrong octet" in fault(server, "--deflate", "no-takeover", "--size", "1024", features=DEFLATE)


@pytest.mark.parametrize("change", [lambda plain: plain[:-1], lambda plain: plain + b"x"], ids=["short", "long"])
def test_a_compressed_answer_of_another_length(start: Start, change: Callable[[bytes], bytes]) -> None:
    server = start(
        EchoServer(once(2, lambda frame: packed_frame(repack(frame.payload, change))), extensions=NO_TAKEOVER)
    )
    assert "wrong octet" in fault(server, "--deflate", "no-takeover", "--size", "1024", features=DEFLATE)


def test_a_compressed_answer_is_checked_again_in_the_next_cycle(start: Start) -> None:
    """An answer that was seen before need not be inflated again, but only if it is the same."""

    def wrong_late(frame: Frame, number: int) -> bytes:
        return packed_frame(repack(frame.payload, (lambda plain: flipped(plain, 9)) if number == 20 else bytes))

    server = start(EchoServer(wrong_late, extensions=NO_TAKEOVER))
    assert "wrong octet" in fault(server, "--deflate", "no-takeover", "--size", "262144", features=DEFLATE)


@pytest.mark.parametrize("packed", [True, False])
def test_deflate_is_offered_as_browsers_do_and_the_answer_may_be_packed_or_not(start: Start, packed: bool) -> None:
    def answer(frame: Frame, _number: int) -> bytes:
        assert frame.first == FIN | RSV1 | TEXT
        plain = zlib.decompressobj(-15).decompress(frame.payload + TAIL)
        return packed_frame(repack(frame.payload)) if packed else server_frame(FIN | TEXT, plain)

    server = start(EchoServer(answer, extensions=NO_TAKEOVER))
    outcome = load(server, "--mode", "opens", "--echo", "--deflate", "browser", features=DEFLATE)
    assert float(outcome["messages"]) > 0
    offer = b"\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
    assert all(offer in request for request in server.requests)


@dataclass
class Takeover:
    """A server with context takeover in both directions, which changes the plain text of one message."""

    wrong: int = -1

    def answer(self) -> Answer:
        """Return the answers for one connection."""
        unpacker = zlib.decompressobj(-15)
        packer = zlib.compressobj(1, zlib.DEFLATED, -15)

        def answer(frame: Frame, number: int) -> bytes:
            plain = unpacker.decompress(frame.payload + TAIL)
            plain = flipped(plain, 700) if number == self.wrong else plain
            return packed_frame((packer.compress(plain) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL))

        return answer


TAKEOVER = ["--deflate", "takeover", "--size", "4096"]
CYCLE = 256
"""The number of 4 KiB messages in one cycle. The wrong ones below are in the first cycle, the second, and later."""


def test_context_takeover_both_ways_passes_over_many_cycles(start: Start) -> None:
    server = start(EchoServer(Takeover().answer(), extensions="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    outcome = load(server, *TAKEOVER, "--seconds", "3", features=DEFLATE)
    assert outcome["errors"] == 0
    assert len(server.frames) > 3 * CYCLE


@pytest.mark.parametrize("wrong", [0, 5, CYCLE + 5, 2 * CYCLE + 5])
def test_a_wrong_octet_under_context_takeover(start: Start, wrong: int) -> None:
    server = start(EchoServer(Takeover(wrong).answer(), extensions="Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    assert "wrong octet" in fault(server, *TAKEOVER, features=DEFLATE)


def test_a_server_that_refuses_context_takeover(start: Start) -> None:
    assert "refused permessage-deflate" in fault(start(EchoServer()), "--deflate", "no-takeover", features=DEFLATE)
    server = start(EchoServer(extensions=NO_TAKEOVER))
    assert "refused context takeover" in fault(server, "--deflate", "takeover", features=DEFLATE)


# TLS.

TLS = frozenset({"tls"})


@pytest.fixture
def context() -> ssl.SSLContext:
    """Return the context of a TLS server."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    generator(TLS)  # skips the test if the library is missing, before the certificate is made
    made.load_cert_chain(*build.certificate())
    return made


@pytest.mark.parametrize("size", ["16", "65536"])
def test_a_right_server_passes_over_tls(start: Start, context: ssl.SSLContext, size: str) -> None:
    server = start(EchoServer(tls=context))
    outcome = load(
        server, "--tls", "--ca", str(build.certificate()[0]), "--size", size, "--connections", "2", features=TLS
    )
    assert outcome["errors"] == 0
    assert float(outcome["messages"]) > 0


def test_one_wrong_bit_over_tls(start: Start, context: ssl.SSLContext) -> None:
    server = start(
        EchoServer(once(2, lambda frame: server_frame(frame.first, flipped(frame.payload, 15))), tls=context)
    )
    assert "at 15 of 16" in fault(server, "--tls", "--ca", str(build.certificate()[0]), features=TLS)

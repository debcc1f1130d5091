"""A real daemon that misbehaves, over plain TCP and TLS: exactly the bytes that the URL asks for, and then a clean end.

Knows frames and sockets. The expected bytes are written out here. Must never take them from the code that it
tests.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from echod.faults.bad import BAD
from tests.daemon import Daemon
from tests.frames import BINARY, DEFLATE, TEXT, client_frame, deflated_octets, handshake
from tests.tls import Certificate

PATIENCE = 60.0
"""Time limit in seconds for what takes milliseconds."""


@pytest.fixture(scope="module")
def daemon(certificate: Certificate) -> Iterator[Daemon]:
    loopback = "0:interface=127.0.0.1"
    with Daemon(ports=[f"tcp:{loopback}", f"ssl:{loopback}:privateKey={certificate.path}"]) as started:
        yield started


class Peer:
    """A client's socket."""

    def __init__(self, daemon: Daemon, is_tls: bool, octets: bytes) -> None:
        """Connect, and send `octets`."""
        url = daemon.urls[1 if is_tls else 0]
        plain = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), PATIENCE)
        self.socket: Any = plain
        if is_tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(plain)
        self.socket.sendall(octets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def take(self, count: int) -> bytes:
        """Return so many bytes, or what came before the end."""
        octets = b""
        while len(octets) < count and (piece := self.socket.recv(count - len(octets))):
            octets += piece
        return octets

    @property
    def segments(self) -> int:
        """How many segments with data have come: `tcpi_data_segs_in` of tcp(7)'s `tcp_info`. A busy machine reads some
        together."""
        count: int = struct.unpack_from("I", self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160), 152)[0]
        return count

    def rest(self) -> bytes:
        """Return everything up to the end."""
        octets = b""
        while piece := self.socket.recv(65536):
            octets += piece
        return octets


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def is_tls(request: pytest.FixtureRequest) -> bool:
    is_so: bool = request.param
    return is_so


# The opening handshake.

FIRST = b"HTTP/1.1 101 Switching Protocols\r\n"
UPGRADE = b"Upgrade: websocket\r\n"
CONNECTION = b"Connection: Upgrade\r\n"
ACCEPT = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
OTHER = b"Sec-WebSocket-Accept: dGhpcyBpcyBhbm90aGVyIGtleSE=\r\n"
GOOD = FIRST + UPGRADE + CONNECTION + ACCEPT

ANSWERS = {
    "accept=wrong": FIRST + UPGRADE + CONNECTION + OTHER + b"\r\n",
    "accept=missing": FIRST + UPGRADE + CONNECTION + b"\r\n",
    "accept=twice": GOOD + OTHER + b"\r\n",
    "without=upgrade": FIRST + CONNECTION + ACCEPT + b"\r\n",
    "without=connection": FIRST + UPGRADE + ACCEPT + b"\r\n",
    "upgrade=wrong": FIRST + b"Upgrade: echo\r\n" + CONNECTION + ACCEPT + b"\r\n",
    "connection=wrong": FIRST + UPGRADE + b"Connection: close\r\n" + ACCEPT + b"\r\n",
    "subprotocol=b": GOOD + b"Sec-WebSocket-Protocol: b\r\n\r\n",
    "subprotocol=c": GOOD + b"Sec-WebSocket-Protocol: c\r\n\r\n",
    "subprotocol=": GOOD + b"\r\n",
    "extension=foo;+a=1": FIRST
    + UPGRADE
    + CONNECTION
    + b"Sec-WebSocket-Protocol: a\r\n"
    + ACCEPT
    + b"Sec-WebSocket-Extensions: foo; a=1\r\n\r\n",
    "subprotocol=&header=X-Tea:gr%C3%BCn&header=Set-Cookie:+a%3Db": GOOD
    + "X-Tea: grün\r\nSet-Cookie: a=b\r\n\r\n".encode(),
    "subprotocol=&head=bare-lf": (GOOD + b"\r\n").replace(b"\r\n", b"\n"),
    "subprotocol=&head=folded": FIRST + b"Upgrade:\r\n websocket\r\n" + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=nul": GOOD + b"X-Echod: a\0b\r\n\r\n",
    "subprotocol=&head=no-blank-line": GOOD,
    "subprotocol=&head=http-1.0": (GOOD + b"\r\n").replace(b"1.1", b"1.0"),
    "subprotocol=&head=status-200": b"HTTP/1.1 200 OK\r\n" + UPGRADE + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=reason-missing": b"HTTP/1.1 101\r\n" + UPGRADE + CONNECTION + ACCEPT + b"\r\n",
    "subprotocol=&head=non-ascii": GOOD + b"X-Echod: gr\xfc\xdfe\r\n\r\n",
    "subprotocol=&head=endless": (GOOD + 700 * (b"X-Echod: " + 89 * b"x" + b"\r\n"))[:65536],
    "subprotocol=&head=junk-before": b"junk\r\n" + GOOD + b"\r\n",
    "subprotocol=&greeting=gr%C3%BCn": GOOD + b"\r\n\x81\x05gr\xc3\xbcn",
    "subprotocol=&greeting=tea&greeting-delay=50ms": GOOD + b"\r\n\x81\x03tea",
    "subprotocol=&greeting=tea&head=nul": GOOD + b"X-Echod: a\0b\r\n\r\n\x81\x03tea",
}
"""The whole answer to a client that offers the subprotocols a and b, by the query."""


@pytest.mark.parametrize("query", ANSWERS)
def test_an_answer_is_wrong_in_the_way_that_was_asked_for(daemon: Daemon, is_tls: bool, query: str) -> None:
    offers = []
    if "subprotocol=" in query or "extension=" in query:
        offers.append("Sec-WebSocket-Protocol: a, b")
    if "extension=" in query:
        offers.append(DEFLATE)
    with Peer(daemon, is_tls, handshake(f"/?{query}", *offers)) as peer:
        assert peer.take(len(ANSWERS[query])) == ANSWERS[query]
        # The server itself takes the connection for open, and ends it in order. Nothing else has come meanwhile.
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.rest() == b"\x88\x02\x03\xe8"


REFUSALS = {
    "status=302&location=/other%3Fa": (b"302 Found", [b"Location: /other?a"], b"The URL asks for this status.\n"),
    "status=503&body=tea+%3Cb%3E": (b"503 Service Unavailable", [b"Retry-After: 5", b"Content-Length: 7"], b"tea <b>"),
    "status=304&body=tea": (b"304 Not Modified", [], b""),
    "status=418&header=X-Tea:green": (b"418 I'm a Teapot", [b"X-Tea: green"], b"The URL asks for this status.\n"),
    "auth=basic:tea:green": (
        b"401 Unauthorized",
        [b'WWW-Authenticate: Basic realm="echod", charset="UTF-8"'],
        b"The URL asks for other credentials.\n",
    ),
    "auth=bearer:tea": (
        b"401 Unauthorized",
        [b'WWW-Authenticate: Bearer realm="echod"'],
        b"The URL asks for other credentials.\n",
    ),
}


@pytest.mark.parametrize("query", REFUSALS)
def test_a_refusal(daemon: Daemon, is_tls: bool, query: str) -> None:
    status, fields, body = REFUSALS[query]
    with Peer(daemon, is_tls, handshake(f"/?{query}")) as peer:
        head, _, rest = peer.rest().partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first.lower() == b"http/1.1 " + status.lower()
    assert set(fields) <= set(lines)
    assert (b"X-Content-Type-Options: nosniff" in lines) == bool(body)
    assert (b"Content-Type: text/plain; charset=utf-8" in lines) == bool(body)
    assert rest == body


@pytest.mark.parametrize(
    ("query", "authorization", "opens"),
    [
        ("auth=basic:tea:gr%C3%BCn", "Basic dGVhOmdyw7xu", True),
        ("auth=basic:tea:gr%C3%BCn", "bAsIc dGVhOmdyw7xu", True),
        ("auth=basic:tea:gr%C3%BCn", "Basic dGVhOmdydW4=", False),
        ("auth=basic:tea:gr%C3%BCn", "Bearer dGVhOmdyw7xu", False),
        ("auth=bearer:t-e.a~_%2B/1=", "Bearer t-e.a~_+/1=", True),
        ("auth=bearer:tea", "Bearer", False),
        ("auth=bearer:tea&status=404", "Bearer tea", False),
    ],
)
def test_credentials(daemon: Daemon, query: str, authorization: str, opens: bool) -> None:
    with Peer(daemon, False, handshake(f"/?{query}", f"Authorization: {authorization}")) as peer:
        assert (peer.take(12) == b"HTTP/1.1 101") == opens


def test_the_first_handshakes_with_a_key_fail(daemon: Daemon, is_tls: bool) -> None:
    def status(query: str) -> bytes:
        with Peer(daemon, is_tls, handshake(f"/?{query}")) as peer:
            return peer.take(12)[-3:]

    found = [status(f"fail=2&key=tea-{is_tls}&status=429") for _ in range(4)]
    assert found == [b"429", b"429", b"101", b"101"]
    assert status(f"fail=1&key=green-{is_tls}") == b"503"


# Frames.

INVALID = bytes.fromhex("cebae1bdb9cf83cebcceb5eda080656469746564")
"""What the Autobahn testsuite sends in its cases 6.3.1 and 7.5.1."""

STORED = b"\x00\x07\x00\xf8\xffunasked\x00"

FRAMES = {
    "raw=8A04746561": b"\x8a\x04tea",
    "raw=ff": b"\xff",
    "bad=masked": b"\x81\x86\x12\x34\x56\x78\x7f\x55\x25\x13\x77\x50",
    "bad=rsv1": b"\xc1\x0dHello, world!",
    "bad=rsv2": b"\xa1\x0dHello, world!",
    "bad=rsv3": b"\x91\x0dHello, world!",
    "bad=opcode-3": b"\x83\x00",
    "bad=opcode-11": b"\x8b\x00",
    "bad=ping-126": b"\x89\x7e\x00\x7e" + 126 * b"\xfe",
    "bad=ping-fragmented": b"\x09\x09fragment1\x80\x09fragment2",
    "bad=continuation": b"\x80\x18non-continuation payload",
    "bad=interleaved": b"\x01\x09fragment1\x81\x09fragment2",
    "bad=unfinished": b"\x01\x0aunfinished",
    "bad=utf8": b"\x81\x14" + INVALID,
    "bad=utf8-cut": b"\x81\x04\xce\xba\xe1\xbd",
    "bad=length-16": b"\x81\x7e\x00\x05short",
    "bad=length-64": b"\x81\x7f\x00\x00\x00\x00\x00\x00\x00\x05short",
    "bad=length-msb": b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x05short",
    "bad=close-1-octet": b"\x88\x01a",
    "bad=close-1005": b"\x88\x02\x03\xed",
    "bad=close-999": b"\x88\x02\x03\xe7",
    "bad=close-utf8": b"\x88\x16\x03\xe8" + INVALID,
    "bad=close-reason-124": b"\x88\x7e\x00\x7e\x03\xe8" + 124 * b"*",
    "bad=behind-close": b"\x88\x02\x03\xe8\x81\x0cHello World!",
    "bad=deflate-garbage": b"\xc2\x08\x07garbage",
    "bad=deflate-unasked": b"\xc1\x0d" + STORED,
    "bad=deflate-window": b"\xc1\x05\x02\xde\xff\x0f\x00",
}
"""What comes after the answer to the handshake, by the query. A client that offers permessage-deflate gets it if it is
needed."""

NO_ECHO = {"unfinished", "length-msb", "close-1-octet", "close-1005", "close-999", "close-utf8", "close-reason-124"}


def opened(peer: Peer) -> bytes:
    """Read the answer to a handshake, and return its head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += peer.take(1)
    assert head.startswith(FIRST)
    return head


def test_every_wrong_frame_is_here() -> None:
    assert {query for query in FRAMES if query.startswith("bad=")} == {f"bad={name}" for name in BAD}


@pytest.mark.parametrize("query", FRAMES)
def test_wrong_frames_byte_by_byte(daemon: Daemon, is_tls: bool, query: str) -> None:
    name = query.removeprefix("bad=")
    with Peer(daemon, is_tls, handshake(f"/?{query}", *[DEFLATE] * name.startswith("deflate"))) as peer:
        head = opened(peer)
        assert (b"permessage-deflate" in head) == (name in {"deflate-garbage", "deflate-window"})
        assert peer.take(len(FRAMES[query])) == FRAMES[query]
        peer.socket.sendall(client_frame(TEXT, b"tea") + b"\x88\x82\0\0\0\0\x03\xe8")
        echo = b"" if name in NO_ECHO or name == "behind-close" else b"\x81\x03tea"
        assert peer.rest() == echo + (b"" if name == "behind-close" else b"\x88\x02\x03\xe8")


@pytest.mark.parametrize("query", FRAMES)
def test_wrong_frames_after_echoes(daemon: Daemon, query: str) -> None:
    deflate = [DEFLATE] * query.startswith("bad=deflate")
    with Peer(daemon, False, handshake(f"/?{query}&after=2", *deflate)) as peer:
        opened(peer)
        peer.socket.sendall(client_frame(TEXT, b"1") + client_frame(TEXT, b"2"))
        expected = b"\x81\x011\x81\x012" + FRAMES[query]
        assert peer.take(len(expected)) == expected


def test_a_window_that_was_agreed_on(daemon: Daemon) -> None:
    """The message refers to what a client with a window of 512 bytes has forgotten, and one with 32 KiB has not."""
    offer = "; ".join([DEFLATE, "server_max_window_bits=9"])
    with Peer(daemon, False, handshake("/?bad=deflate-window", offer)) as peer:
        assert b"server_max_window_bits=9" in opened(peer)
        filling = peer.take(4 + 582)
        assert filling == b"\xc1\x7e\x02\x46\x00\x40\x02\xbf\xfd" + 576 * b"x" + b"\x00"
        far = peer.take(2)
        far += peer.take(far[1])
        large, small = zlib.decompressobj(-15), zlib.decompressobj(-9)
        for inflater in (large, small):
            assert inflater.decompress(filling[4:] + b"\0\0\xff\xff") == 576 * b"x"
        assert large.decompress(far[2:] + b"\0\0\xff\xff") == b"xxx"
        with pytest.raises(zlib.error, match="too far back"):
            small.decompress(far[2:] + b"\0\0\xff\xff")


@pytest.mark.parametrize(("size", "octets"), [("1", 1), ("1MiB", 2**20), ("20MiB", 20 * 2**20), ("3000001", 3000001)])
def test_a_bomb(daemon: Daemon, is_tls: bool, size: str, octets: int) -> None:
    with Peer(daemon, is_tls, handshake(f"/?bomb={size}", DEFLATE)) as peer:
        opened(peer)
        first, second = peer.take(2)
        assert first == 0xC2
        length = second if second < 126 else int.from_bytes(peer.take(2 if second == 126 else 8))
        assert length < octets // 800 + 30
        inflater = zlib.decompressobj(-9)
        came = inflater.decompress(peer.take(length) + b"\0\0\xff\xff")
        assert came == bytes(octets)
        # What follows does not refer to what the server did not deflate itself.
        peer.socket.sendall(client_frame(TEXT, deflated_octets(100 * b"tea"), rsv=4))
        first, second = peer.take(2)
        assert (first, inflater.decompress(peer.take(second) + b"\0\0\xff\xff")) == (0xC1, 100 * b"tea")


@pytest.mark.parametrize("query", ["bad=deflate-garbage", "bad=deflate-window", "bomb=1MiB"])
def test_what_needs_permessage_deflate_says_so(daemon: Daemon, query: str) -> None:
    for more in ("", "&compression=off"):
        offers = [DEFLATE] * bool(more)
        with Peer(daemon, False, handshake(f"/?{query}{more}", *offers)) as peer:
            assert b"400 Bad Request" in (answer := peer.rest())
            assert b"needs an offer of permessage-deflate" in answer


# Delivery.


def test_slices(daemon: Daemon, is_tls: bool) -> None:
    expected = GOOD + b"\r\n\x81\x0atea, green"
    with Peer(daemon, is_tls, b"") as peer:
        before = peer.segments
        peer.socket.sendall(handshake("/?slice=7") + client_frame(TEXT, b"tea, green"))
        assert peer.take(len(expected)) == expected
        assert peer.segments - before >= len(expected) / 7
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.rest() == b"\x88\x02\x03\xe8"


def test_a_rate(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?rate=2000") + client_frame(BINARY, bytes(1000))) as peer:
        began = time.monotonic()
        opened(peer)
        assert peer.take(1004) == b"\x82\x7e\x03\xe8" + bytes(1000)
        # The first of twenty pieces in a second comes at once.
        assert time.monotonic() - began > (len(GOOD) + 1004) / 2000 - 0.15


@pytest.mark.parametrize("count", [0, 1, 3, 5])
def test_a_cut(daemon: Daemon, is_tls: bool, count: int) -> None:
    for more in ("", "&slice=1", "&header=X-Tea:green", "&ping=100ms"):
        with Peer(daemon, is_tls, handshake(f"/?cut={count}{more}") + client_frame(TEXT, b"tea")) as peer:
            opened(peer)
            assert peer.rest() == b"\x81\x03tea"[:count]


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("last", [b"", b"\x88\x82\0\0\0\0\x03\xe8"], ids=["", "Close frame"])
def test_a_cut_with_a_reset(daemon: Daemon, count: int, last: bytes) -> None:
    with Peer(daemon, False, handshake(f"/?cut={count}&abort") + client_frame(TEXT, b"tea") + last) as peer:
        opened(peer)
        assert peer.take(count) == b"\x81\x03tea"[:count]
        with pytest.raises(ConnectionResetError):
            peer.rest()


def test_slow_reading(daemon: Daemon, is_tls: bool) -> None:
    began = time.monotonic()
    with Peer(daemon, is_tls, handshake("/?read-rate=2000")) as peer:
        opened(peer)
        # Over TLS a record can't be read before it is whole, so the pause comes behind it.
        for _ in range(2):
            peer.socket.sendall(client_frame(BINARY, bytes(1000)))
            assert peer.take(1004) == b"\x82\x7e\x03\xe8" + bytes(1000)
        assert time.monotonic() - began > 0.45
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.rest() == b"\x88\x02\x03\xe8"


# Silence, and what comes of its own accord.

PING = b"\x89\x83\0\0\0\0tea"


def test_no_pong(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?pong=no")) as peer:
        opened(peer)
        peer.socket.sendall(PING + client_frame(TEXT, b"tea") + b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.rest() == b"\x81\x03tea\x88\x02\x03\xe8"


def test_late_pongs(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?pong=300ms")) as peer:
        opened(peer)
        peer.socket.sendall(PING + client_frame(TEXT, b"tea") + PING)
        assert peer.take(15) == b"\x81\x03tea" + 2 * b"\x8a\x03tea"


def test_pongs_that_nobody_asked_for(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?pong-every=100ms")) as peer:
        opened(peer)
        assert peer.take(6) == 3 * b"\x8a\x00"


def test_a_late_reply_to_a_close_frame(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?close-reply=300ms")) as peer:
        opened(peer)
        began = time.monotonic()
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8" + client_frame(TEXT, b"tea") + PING)
        assert peer.rest() == b"\x88\x02\x03\xe8"
        assert time.monotonic() - began > 0.29


def test_no_reply_to_a_close_frame(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?close-reply=no&every=100ms&count=2")) as peer:
        opened(peer)
        peer.socket.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        assert peer.take(6) == b"\x81\x011\x81\x012"
        peer.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            peer.take(1)


def test_numbered_messages_and_a_burst(daemon: Daemon, is_tls: bool) -> None:
    with Peer(daemon, is_tls, handshake("/?burst=11&size=4&every=100ms&count=1")) as peer:
        opened(peer)
        numbers = [f"{number} ".ljust(4, "x")[:4] for number in range(1, 12)]
        assert peer.take(11 * 6 + 3) == b"".join(b"\x81\x04" + text.encode() for text in numbers) + b"\x81\x011"


def test_a_burst_waits_for_a_client_that_does_not_read(daemon: Daemon) -> None:
    with Peer(daemon, False, handshake("/?burst=4000&size=64KiB")) as peer:
        opened(peer)
        first = peer.take(10 + 65536)
        assert first[:14] == b"\x81\x7f" + (65536).to_bytes(8) + b"1 xx"
        time.sleep(0.3)
        held = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{daemon.pid}/status").read_text())[0])
        assert held < 150_000, "it is 256 MiB in all"


def test_changed_bits(daemon: Daemon, is_tls: bool) -> None:
    messages = [b"tea, green", "grün, ünly".encode(), b"", "☕".encode()] * 3
    with Peer(daemon, is_tls, handshake("/?mutate=2&seed=7")) as peer:
        opened(peer)
        peer.socket.sendall(b"".join(client_frame(TEXT, message) for message in messages))
        for number, message in enumerate(messages, 1):
            first, size = peer.take(2)
            echo = peer.take(size)
            assert first == 0x81
            echo.decode()
            flipped = sum((one ^ other).bit_count() for one, other in zip(echo, message, strict=True))
            assert flipped == (number % 2 == 0)

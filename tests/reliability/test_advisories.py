"""One test for each published fault that an echo server on Autobahn could share, by its library or by its kind.

The tests use a connection on a fake transport. So each test is fast, and decides how the bytes are cut.
"""

from __future__ import annotations

import time
import tracemalloc
import zlib
from typing import Any

import pytest

from echod.core.quantities import KIB, MIB
from echod.settings import Settings
from echod.web.pages import Pages
from tests import frames
from tests.fakes import Peer, make_factory

LIMIT = 64 * KIB


def close_code(found: list[frames.Frame]) -> int | None:
    """Return the code of the Close frame that is the last of the frames."""
    return int.from_bytes(found[-1].payload[:2], "big") if found and found[-1].opcode == frames.CLOSE else None


def compressed(payload: bytes, *, fin: bool = True) -> bytes:
    """Return a frame with a deflated `payload` (RFC 7692 section 7.2.1)."""
    return frames.client_frame(frames.BINARY, frames.deflated_octets(payload), rsv=4, fin=fin)


def open_peer(*headers: str, target: str = "/", **settings: Any) -> Peer:
    """Open a connection to a daemon with these settings."""
    peer = Peer(make_factory(**({"max_message_size": LIMIT} | settings)))
    peer.open(target, *headers)
    return peer


# GHSA-hxp9-w8x3-p566 (autobahn): the limit on a message applied before inflation, and not after it.


@pytest.mark.parametrize("size", [LIMIT + 1, 1000 * LIMIT], ids=["one too many", "1000 times"])
def test_limit_after_inflation_ghsa_hxp9_w8x3_p566(size: int) -> None:
    peer = open_peer(frames.DEFLATE)
    bomb = compressed(bytes(size))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    found = peer.frames(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert close_code(found) == 1009
    assert peak < 2 * LIMIT + 512 * KIB


def test_limit_after_inflation_over_fragments_ghsa_hxp9_w8x3_p566() -> None:
    peer = open_peer(frames.DEFLATE)
    deflate = zlib.compressobj(wbits=-15)
    found: list[frames.Frame] = []
    for i in range(100):
        piece = deflate.compress(bytes(LIMIT // 10)) + deflate.flush(zlib.Z_SYNC_FLUSH)
        found += peer.frames(
            frames.client_frame(frames.CONTINUATION if i else frames.BINARY, piece, rsv=0 if i else 4, fin=False)
        )
    assert close_code(found) == 1009
    assert not peer.protocol.count()


def test_a_message_of_just_the_limit_is_echoed_deflated() -> None:
    peer = open_peer(frames.DEFLATE)
    found = peer.frames(compressed(bytes(LIMIT)))
    assert [frame.opcode for frame in found] == [frames.BINARY]


# CVE-2026-44546 (daphne): a header line was split where HTTP has no line end, so that a client could forge a header of
# the proxy.

LINE_ENDS = ["\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r", "\n", "\x00", "\r\n ", "\r\n\t"]


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
def test_header_line_splitting_cve_2026_44546(end: str) -> None:
    factory = make_factory(trust_proxy=1, max_connections_per_address=1)
    peer = Peer(factory)
    peer.send(frames.handshake("/", f"X-A: a{end}X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 198.51.100.7"))
    assert peer.protocol.address in (None, "198.51.100.7")


@pytest.mark.parametrize("end", LINE_ENDS, ids=repr)
def test_header_line_splitting_without_a_proxys_header_cve_2026_44546(end: str) -> None:
    """The header of the client alone, too: a proxy may remove the header that it knows, and pass on this unseen one."""
    peer = Peer(make_factory(trust_proxy=1), host="192.0.2.1")
    answer = peer.send(frames.handshake("/", f"X-A: a{end}X-Forwarded-For: 6.6.6.6"))
    if end == "\n":
        # The guard treats a bare LF as a proxy does: it is no line end.
        assert answer.startswith(b"HTTP/1.1 400 ")
    assert peer.protocol.address in (None, "192.0.2.1")


def test_the_limit_for_an_address_counts_the_real_one() -> None:
    factory = make_factory(trust_proxy=1, max_connections_per_address=2)
    for i in range(2):
        Peer(factory).open("/", f"X-Forwarded-For: 6.6.6.{i}, 198.51.100.7")
    answer = Peer(factory).send(frames.handshake("/", "X-Forwarded-For: 6.6.6.9, 198.51.100.7"))
    assert answer.startswith(b"HTTP/1.1 429 ")
    Peer(factory).open("/", "X-Forwarded-For: 198.51.100.7, 198.51.100.8")


@pytest.mark.parametrize(
    "hop",
    [
        "fe80::1%" + "a" * 100,
        "fe80::1%\x9b31m",
        "1.2.3.4.5",
        "unknown",
        "[::1]:800000",
        "[192.0.2.9]:80",
        "::1:80x",
        "\uff11.2.3.4",
    ],
)
def test_an_invalid_address_is_not_trusted(hop: str) -> None:
    peer = Peer(make_factory(trust_proxy=1), host="192.0.2.1")
    peer.send(frames.handshake("/", "X-Forwarded-For: ").replace(b"For: ", b"For: " + hop.encode()))
    assert peer.protocol.address in (None, "192.0.2.1")


# CVE-2026-44545 (daphne): frames and messages without a limit on their size.


def test_sizes_have_a_limit_by_default_cve_2026_44545() -> None:
    peer = Peer(make_factory())
    peer.open()
    assert close_code(peer.frames(frames.client_frame(frames.BINARY, claim=16 * MIB + 1))) == 1009


def test_a_frame_and_a_message_have_a_limit_cve_2026_44545() -> None:
    assert close_code(open_peer().frames(frames.client_frame(frames.BINARY, bytes(LIMIT + 1)))) == 1009
    peer = open_peer()
    found = peer.frames(frames.client_frame(frames.BINARY, bytes(LIMIT), fin=False))
    assert found == []
    assert close_code(peer.frames(frames.client_frame(frames.CONTINUATION, b"x"))) == 1009


# CVE-2026-62389 (ws): memory that grew with the number of fragments instead of their bytes.


@pytest.mark.parametrize("payload", [b"", b"x"], ids=["empty", "1 octet"])
def test_tiny_fragments_cve_2026_62389(payload: bytes) -> None:
    peer = open_peer(max_message_size=16 * MIB)
    most = peer.protocol.factory.settings.max_fragments
    assert most == 128 * KIB
    many = frames.client_frame(frames.CONTINUATION, payload, fin=False) * 1024
    assert peer.frames(frames.client_frame(frames.BINARY, payload, fin=False)) == []
    tracemalloc.start()
    for _ in range(most // 1024 - 1):
        assert peer.frames(many) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * MIB
    assert close_code(peer.frames(many)) == 1008
    assert peer.transport.half_closed


# CVE-2026-123817 (aiohttp): memory and time that grew with the number of reads of a message instead of its bytes.


def test_tiny_reads_cve_2026_123817() -> None:
    def send(size: int) -> float:
        peer = open_peer(max_message_size=16 * MIB)
        octets = frames.client_frame(frames.BINARY, bytes(size))
        start = time.process_time()
        for i in range(0, len(octets), 2):
            peer.protocol.dataReceived(octets[i : i + 2])
        used = time.process_time() - start
        assert peer.take() == frames.server_frame(frames.BINARY, bytes(size))
        return used

    small, large = min(send(16 * KIB) for _ in range(3)), min(send(128 * KIB) for _ in range(2))
    assert large < 8 * small * 4, "quadratic time would be twice as much"
    tracemalloc.start()
    send(64 * KIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 64 * KIB + 64 * KIB


def test_tiny_reads_of_a_request_head_cve_2026_123817() -> None:
    def send(size: int) -> float:
        peer = Peer(make_factory())
        head = frames.handshake("/", "X-Long: " + "a" * size)
        start = time.process_time()
        for i in range(len(head)):
            peer.protocol.dataReceived(head[i : i + 1])
        used = time.process_time() - start
        assert peer.take().startswith(b"HTTP/1.1 101 ")
        return used

    assert min(send(7200) for _ in range(3)) < 8 * min(send(900) for _ in range(3)) * 4


# Lengths of 2^63 and more (RFC 6455 section 5.2: the most significant bit must be 0). Many servers took them for
# negative numbers.


@pytest.mark.parametrize("length", [2**63 - 1, 2**63, 2**63 + 5, 2**64 - 1])
@pytest.mark.parametrize("opcode", [frames.TEXT, frames.BINARY, frames.PING])
def test_lengths_of_2_to_the_63(length: int, opcode: int) -> None:
    peer = open_peer()
    found = peer.frames(frames.client_frame(opcode, b"abc", claim=length))
    assert close_code(found) in (1002, 1009)
    assert peer.transport.half_closed
    assert not peer.protocol.count()


# PYSEC-2020-25 (autobahn): the page for a plain GET redirected to any address in the URL, with line ends in a header.


@pytest.mark.parametrize(
    "target",
    [
        "/?redirect=http://evil.example/",
        "/?redirect=//evil.example&after=5",
        "/?redirect=x%0d%0aSet-Cookie:%20a=b",
        "/?after=x&redirect=y",
        "/?redirect=x\r\nSet-Cookie: a=b",
    ],
)
@pytest.mark.parametrize("is_websocket", [False, True])
def test_redirect_injection_pysec_2020_25(target: str, is_websocket: bool) -> None:
    request = frames.handshake(target) if is_websocket else f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    answer = Peer(make_factory(pages=Pages(Settings(), lambda: True).answer)).send(request)
    head = answer.partition(b"\r\n\r\n")[0].lower()
    assert b"evil" not in answer
    assert b"refresh" not in answer.lower()
    assert b"\r\nlocation:" not in head
    assert b"\r\nset-cookie:" not in head
    assert b"autobahn" not in answer.lower()


# A subprotocol that is not ASCII: it raised an exception in the handshake of several servers.


@pytest.mark.parametrize("subprotocol", ["é", "é, chat", "chat, ü", "\xff\xfe", "a b", 'a"b', "a;b", "a,a", "(a)"])
def test_subprotocol_that_is_not_ascii(subprotocol: str) -> None:
    peer = Peer(make_factory())
    answer = peer.send(frames.handshake("/", f"Sec-WebSocket-Protocol: {subprotocol}"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.isascii()
    assert peer.transport.half_closed


def test_no_answer_repeats_the_request() -> None:
    """No answer repeats what a client sent, except for the subprotocol in a 101."""
    for request in (
        frames.handshake("/secret-path", "X-Secret: secret", "Sec-WebSocket-Protocol: secret, secret"),
        frames.handshake("/secret-path", "Origin: https://secret.example", key="secret"),
        b"GET /secret HTTP/1.1\r\nHost: secret\r\n\r\n",
        b"SECRET /secret HTTP/1.1\r\nHost: secret\r\n\r\n",
    ):
        answer = Peer(make_factory()).send(request)
        assert answer.startswith(b"HTTP/1.1 4")
        assert b"secret" not in answer.lower()

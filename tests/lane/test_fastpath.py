"""The express lane at work: real sockets on the real transport and the real pump, when a lease begins, why it ends, and
what then.

What holds for every socket that can be leased is tried on a bare one and over each version of TLS.

What is compared with is `tests.frames`, as in test_protocol.py; that any octets give the same with and without the lane
is test_sameness.py's.
"""

from __future__ import annotations

import io
import random
import re
import select
import socket
import ssl
import sys
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.abc import MetaPathFinder
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.tcp import Connection
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, eventAsText
from twisted.python.failure import Failure

from echod.core import memory
from echod.core.budget import Budget
from echod.core.counts import Closer, Outcome
from echod.core.deadlines import TICK, Ticker
from echod.http.extensions import Terms
from echod.lane.fastpath import SPARE_TIME, Codec, Deflating, Ended, Lane, Octets
from echod.lane.native import Native, NativeError, load, zlib_functions
from echod.options import Options
from echod.run.service import describe_lane
from echod.settings import Compression
from echod.upstream import tls_sessions, transports
from echod.websocket.factory import EchoFactory
from echod.websocket.protocol import EchoProtocol
from tests.client import Client
from tests.core.test_budget import FakeHolder
from tests.fakes import Peer, make_factory
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    handshake,
    server_frame,
    split,
)
from tests.loop import DEADLINE, Bed, Link, Loop, SecureLink, bed, wait_for_lease
from tests.reactor import until
from tests.run.test_service import address, lines, make
from tests.tls import Certificate

__all__ = ["lines"]  # a fixture

KEY = b"\x37\xfa\x21\x3d"
GOING_AWAY = server_frame(CLOSE, close_payload(1001, "going away"))
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


@pytest.fixture
def bare() -> EchoFactory:
    """A factory without the lane."""
    return make_factory(ping_interval=0)


@pytest.fixture(params=["plain", "TLSv1_2", "TLSv1_3"])
def dial(request: pytest.FixtureRequest, certificate: Certificate) -> Callable[[Bed], Link]:
    """Make a link over each kind of transport whose socket can be leased."""

    return (
        Bed.link if request.param == "plain" else partial(secure_link, certificate=certificate, version=request.param)
    )


@pytest.fixture
def link(lane_bed: Bed, dial: Callable[[Bed], Link]) -> Link:
    return dial(lane_bed)


def lane_of(bed_: Bed) -> Lane:
    assert bed_.factory.lane is not None
    return bed_.factory.lane


def held(bed_: Bed) -> int:
    lane = lane_of(bed_)
    return lane._lib.echod_pump_held(lane._pump)


def noise(size: int, opcode: int = BINARY) -> bytes:
    generator = random.Random(size)
    return (
        generator.randbytes(size)
        if opcode == BINARY
        else ("aé€😀" * size).encode()[: size // 10 * 10].ljust(size, b".")
    )


def has_taken_all(link: Link) -> bool:
    """Whether the pump has read all of a message's begin that was sent."""
    return bool(link.protocol.count()) and not transports.unread(link.protocol._layers)


def echoed(link: Link, opcode: int, payload: bytes) -> None:
    """Send one message and have it back."""
    link.send(client_frame(opcode, payload, mask=KEY))
    expected = server_frame(opcode, payload)
    assert link.receive(len(expected)) == expected


def is_leased(link: Link) -> bool:
    return link.protocol.lease is not None


AnyLink = TypeVar("AnyLink", bound=Link)


def leased(link: AnyLink) -> AnyLink:
    """Wait until the lease has begun; over TLS that is a turn after the read."""
    wait_for_lease(link.protocol, link.loop, lambda: echoed(link, TEXT, b""))
    return link


def secure_link(made: Bed, certificate: Certificate, version: str) -> SecureLink:
    """Return a leased link over one version of TLS."""
    client = certificate.client()
    client.minimum_version = client.maximum_version = ssl.TLSVersion[version]
    return leased(made.secure_link(certificate, client=client))


# A lease, and its end.


def test_a_lease_begins_after_the_handshake(lane_bed: Bed) -> None:
    link = lane_bed.link()
    assert is_leased(link)
    assert lane_bed.loop.readers == [lane_of(lane_bed)], "the pump is one descriptor for the reactor"
    assert IReadDescriptor.providedBy(lane_of(lane_bed))
    assert lane_of(lane_bed).logPrefix() == "pump"
    assert link.protocol.count() == link.protocol.count_pending() == 0


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 1, 125, 126, 4096, 16_384, 65_535, 65_536, 2**20])
def test_ordinary_messages_stay_in_the_lease(
    link: Link, opcode: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = link.protocol.lease
    monkeypatch.setattr(link.protocol, "dataReceived", lambda _: pytest.fail("the pump doesn't ask the protocol"))
    payload = noise(size, opcode)
    echoed(link, opcode, payload)
    echoed(link, opcode, payload)
    assert link.protocol.lease is lease
    assert (lease.messages, lease.octets) == (2, 2 * size)
    assert (lease.held, lease.unsent_size, lease.sealed_size) == (0, 0, 0)


def test_a_ping_ends_the_lease_and_a_new_one_begins(link: Link) -> None:
    for _ in range(3):
        link.send(client_frame(TEXT, b"beside") + client_frame(PING, b"x") + client_frame(TEXT, b"behind"))
        expected = server_frame(TEXT, b"beside") + server_frame(PONG, b"x") + server_frame(TEXT, b"behind")
        assert link.receive(len(expected)) == expected
        leased(link)
        echoed(link, TEXT, b"later")
        assert link.protocol.lease.messages == 1, "a new one"


def fragmented(payload: bytes, size: int, opcode: int = BINARY) -> list[bytes]:
    """A message's frames, of so many octets each."""
    starts = range(0, len(payload), size)
    return [
        client_frame(CONTINUATION if at else opcode, payload[at : at + size], fin=at + size >= len(payload))
        for at in starts
    ]


def test_a_fragmented_message_stays_in_the_lease(lane_bed: Bed, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = link.protocol.lease
    monkeypatch.setattr(link.protocol, "dataReceived", lambda _: pytest.fail("the pump doesn't ask the protocol"))
    link.send(client_frame(TEXT, b"frag", fin=False))
    lane_bed.loop.until(lambda: has_taken_all(link))
    link.send(client_frame(CONTINUATION, b"mented") + client_frame(TEXT, b"x"))
    expected = server_frame(TEXT, b"fragmented") + server_frame(TEXT, b"x")
    assert link.receive(len(expected)) == expected
    assert (link.protocol.lease, lease.messages, lease.octets) == (lease, 2, 11)


@pytest.mark.parametrize("size", [1_000, 60_000])
def test_a_message_is_handed_over_in_the_middle_and_a_new_lease_begins_behind_it(link: Link, size: int) -> None:
    payload, before = noise(size * 16), told(link)
    parts = fragmented(payload, size)
    link.send(b"".join(parts[:7]) + parts[7][:-1])
    link.loop.until(lambda: has_taken_all(link) and link.protocol.count() >= 7 * size)
    link.protocol.ping()
    assert link.receive(2) == server_frame(PING)
    assert not is_leased(link)
    assert link.protocol._fragments == 8
    link.send(parts[7][-1:] + client_frame(PONG) + b"".join(parts[8:]))
    expected = server_frame(BINARY, payload)
    assert link.receive(len(expected)) == expected
    link.loop.until(lambda: is_leased(link))
    assert [after - was for was, after in zip(before, told(link), strict=True)] == [1, size * 16, 1, size * 16]


@pytest.mark.parametrize("between", [b"", client_frame(PING, b"x")])
def test_fragments_are_counted_across_the_hand_over(
    native: Native, dial: Callable[[Bed], Link], between: bytes
) -> None:
    with bed(native, max_fragments=8, ping_interval=0) as made:
        for number in (8, 9):
            link = dial(made)
            parts = fragmented(b"x" * number, 1)
            link.send(b"".join(parts[:3]) + between + b"".join(parts[3:]))
            expected = server_frame(PONG, b"x") if between else b""
            expected += (
                server_frame(BINARY, b"x" * 8)
                if number == 8
                else server_frame(CLOSE, close_payload(1008, "too many fragments"))
            )
            assert link.receive(len(expected)) == expected


@pytest.mark.parametrize("is_tls", [False, True])
def test_who_compresses_well_stays_in_the_lease(lane_bed: Bed, certificate: Certificate, is_tls: bool) -> None:
    """One read has 30 MiB in it: what there is no time for waits within the lease."""
    link = leased(lane_bed.secure_link(certificate, DEFLATE)) if is_tls else lane_bed.link(DEFLATE)
    lease, already = link.protocol.lease, link.protocol.lease.messages
    octets = zlib.compressobj(9, wbits=-12)
    frame = client_frame(TEXT, (octets.compress(bytes(50_000)) + octets.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4, mask=KEY)
    link.send(frame * 624)
    size = 624 * (len(frame) - len(KEY))
    assert len(link.receive(size)) == size
    lane_bed.loop.until(lambda: lease.held == 0)
    assert (link.protocol.lease, lease.messages - already) == (lease, 624)


def test_a_fragmented_message_under_way_is_echoed_before_going_away(lane_bed: Bed, link: Link) -> None:
    parts = fragmented(b"fragmented", 4, TEXT)
    link.send(parts[0] + parts[1][:3])
    lane_bed.loop.until(lambda: has_taken_all(link))
    link.protocol.go_away()
    link.send(parts[1][3:] + parts[2])
    expected = server_frame(TEXT, b"fragmented") + GOING_AWAY
    assert link.receive(len(expected)) == expected


def test_a_closing_handshake(lane_bed: Bed, link: Link) -> None:
    link.send(
        client_frame(TEXT, b"x") + client_frame(CLOSE, close_payload(1000, "bye")) + client_frame(TEXT, b"behind")
    )
    assert link.receive_all() == server_frame(TEXT, b"x") + server_frame(CLOSE, close_payload(1000, "bye"))
    link.end()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (client_frame(TEXT, b"valid \xff"), 1007),
        (client_frame(TEXT, b"v" * 10_000 + b"\xed\xa0\x80" + b"v" * 10_000), 1007),
        (client_frame(TEXT, b"\xff" + b"v" * 10, claim=10_000_000), 1007),
        (client_frame(TEXT, b"v" * 70_000 + b"\xff", claim=10_000_000), 1007),
        (client_frame(BINARY, b"", claim=2**30), 1009),
        (client_frame(BINARY, b"", claim=2**63), 1002),
        (client_frame(TEXT, b"x", mask=None), 1002),
        (client_frame(TEXT, b"x", rsv=4), 1002),
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(3, b"x"), 1002),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_wrong_is_for_autobahn_to_judge_at_once(lane_bed: Bed, link: Link, octets: bytes, code: int) -> None:
    link.send(client_frame(TEXT, b"before") + octets)
    before, close = split(link.receive_all())[0]
    assert before == Frame(TEXT, b"before")
    assert (close.opcode, int.from_bytes(close.payload[:2], "big")) == (CLOSE, code)
    link.end()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert held(lane_bed) == 0


@pytest.mark.parametrize("fault", [b"\xff", b"\xc0", b"\xed\xa0", b"\xf4\x90"])
@pytest.mark.parametrize("size", [100, 4_000, 4_100, 100_000])
def test_text_that_no_octet_can_mend_is_refused_before_it_is_whole(link: Link, fault: bytes, size: int) -> None:
    octets = client_frame(TEXT, b"\xc3\xa9" * 5 + fault + b"x" * size)
    for octet in octets[:-size]:
        link.send(bytes([octet]))
    (close,) = split(link.receive_all())[0]
    assert close.payload[:2] == (1007).to_bytes(2, "big")


def test_octet_by_octet(link: Link) -> None:
    lease = link.protocol.lease
    octets = client_frame(TEXT, "aé€😀".encode() * 40) + client_frame(BINARY, b"\xff" * 130)
    for octet in octets:
        link.send(bytes([octet]))
    expected = server_frame(TEXT, "aé€😀".encode() * 40) + server_frame(BINARY, b"\xff" * 130)
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease


# Large messages, and clients that don't read.


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_message_in_pieces_is_held_in_the_lease(lane_bed: Bed, link: Link, opcode: int) -> None:
    octets, lease = client_frame(opcode, noise(2**20, opcode)), link.protocol.lease
    for start in range(0, len(octets) - 1, 100_000):
        piece = octets[start : min(start + 100_000, len(octets) - 1)]
        link.send(piece)
        lane_bed.loop.until(lambda: has_taken_all(link))
    lane_bed.loop.until(lambda: held(lane_bed) >= len(octets) - 1)
    assert held(lane_bed) == lane_bed.factory.budget._leased
    link.send(octets[-1:])
    expected = server_frame(opcode, noise(2**20, opcode))
    assert link.receive(len(expected)) == expected
    lane_bed.loop.turn()
    assert (held(lane_bed), lane_bed.factory.budget._leased, link.protocol.lease) == (0, 0, lease)


def test_the_buffers_of_large_messages_are_kept_for_a_while(lane_bed: Bed, link: Link) -> None:
    lane = lane_of(lane_bed)
    echoed(link, BINARY, noise(2**20, BINARY))
    lane_bed.loop.turn()
    assert lane._lib.echod_pump_spare(lane._pump) >= 2**20
    lane_bed.loop.advance(SPARE_TIME)
    assert lane._lib.echod_pump_spare(lane._pump) == 0
    # The next are released by the lane's own end, if that comes before.
    echoed(link, BINARY, noise(2**20, BINARY))


def stuff(link: Link, octets: bytes, is_full: Callable[[], bool]) -> int:
    """Send `octets` again and again, and read nothing, until the server reads no more; return how many times all of it
    was sent."""
    times, rest = 0, octets
    while not (is_full() and not link.push(b"")):
        sent = link.push(rest)
        rest = rest[sent:]
        if not sent:
            if is_full():
                break
            link.loop.turn(0.01)
        if not rest:
            times, rest = times + 1, octets
    return times * len(octets) + len(octets) - len(rest)


@pytest.mark.parametrize("size", [100, 60_000, 2**20])
def test_who_does_not_read_is_not_read_and_gets_all_in_the_end(lane_bed: Bed, size: int) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame, lease = client_frame(BINARY, noise(size), mask=KEY), link.protocol.lease
    sent = stuff(link, frame, lambda: lease.unsent_size > 0)
    assert lease.unsent_size <= link.protocol.count() == held(lane_bed)
    assert link.protocol.count_pending() >= lease.unsent_size
    assert lease.unsent_size <= max(size + 10, 2 * 65_536)
    messages = -(-sent // len(frame))
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    expected = server_frame(BINARY, noise(size)) * messages
    assert link.receive(len(expected)) == expected
    lane_bed.loop.until(lambda: held(lane_bed) == 0)
    assert link.protocol.lease is lease
    echoed(link, TEXT, b"as before")


@pytest.mark.parametrize("size", [100, 2**20])
def test_who_ends_its_half_gets_what_is_unsent(lane_bed: Bed, size: int) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame = client_frame(BINARY, noise(size), mask=KEY)
    sent = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0)
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    link.end()
    assert link.receive_all() == server_frame(BINARY, noise(size)) * -(-sent // len(frame))
    lane_bed.loop.until(lambda: not lane_bed.factory.live)


def test_who_ends_its_half_in_a_message(lane_bed: Bed) -> None:
    link = lane_bed.link()
    link.send(client_frame(TEXT, b"whole") + client_frame(TEXT, b"not")[:-1])
    link.end()
    assert link.receive_all() == server_frame(TEXT, b"whole")
    lane_bed.loop.until(lambda: not lane_bed.factory.live)


def test_a_reset_by_the_peer_ends_the_connection(lane_bed: Bed) -> None:
    link = lane_bed.link(send_buffer=65_536)
    stuff(link, client_frame(BINARY, noise(60_000)), lambda: link.protocol.lease.unsent_size > 0)
    other = lane_bed.link()
    other.send(client_frame(BINARY, noise(60_000))[:-1])
    link.reset()
    other.reset()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert held(lane_bed) == 0
    assert not lane_of(lane_bed)._borrowers


def test_a_descriptor_that_is_used_again_is_leased_again(lane_bed: Bed) -> None:
    descriptors = []
    for number in range(3):
        link = lane_bed.link()
        descriptors.append(link.transport.fileno())
        echoed(link, TEXT, b"%d" % number)
        link.end()
        assert link.receive_all() == b""
        lane_bed.loop.until(lambda: not lane_bed.factory.live)
        link.socket.close()
    assert len(set(descriptors)) == 1


def test_two_hundred_leases_at_once(lane_bed: Bed) -> None:
    links = [lane_bed.link() for _ in range(200)]
    assert len(lane_of(lane_bed)._borrowers) == 200
    octets = {
        link: b"".join(server_frame(TEXT, b"%d %d" % (number, n) * n) for n in range(20))
        for number, link in enumerate(links)
    }
    for number, link in enumerate(links):
        link.send(b"".join(client_frame(TEXT, b"%d %d" % (number, n) * n) for n in range(20)))
    for link, expected in octets.items():
        assert link.receive(len(expected)) == expected
        assert is_leased(link)


def test_a_flood_does_not_starve_another(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    flood, modest = lane_bed.link(), lane_bed.link()
    monkeypatch.setattr("echod.lane.fastpath.TURN", 0)
    frame = client_frame(BINARY, bytes(1000)) * 60
    while flood.push(frame):
        """Until the kernel takes no more: many reads wait."""
    modest.push(client_frame(TEXT, b"modest"))
    assert select.select([modest.transport], [], [], DEADLINE)[0], (
        "it comes, though not at once where the kernel is busy"
    )
    for _ in range(2):
        lane_of(lane_bed).doRead()
    assert modest.protocol.lease.messages == 1, "a turn of no time serves one socket, and then it is the other's turn"
    assert modest.receive(8) == server_frame(TEXT, b"modest")


# What others ask of a leased connection.


def test_going_away_when_nothing_is_under_way(link: Link) -> None:
    link.protocol.go_away()
    assert link.receive(len(GOING_AWAY)) == GOING_AWAY
    assert not is_leased(link)
    link.send(client_frame(TEXT, b"too late") + client_frame(CLOSE, close_payload(1001)))
    assert link.receive_all() == b""


@pytest.mark.parametrize("size", [9, 100_000])
@pytest.mark.parametrize("cut", [1, 5, 8, -1])
def test_a_message_under_way_is_echoed_before_going_away(lane_bed: Bed, link: Link, size: int, cut: int) -> None:
    octets, lease = client_frame(TEXT, noise(size, TEXT)), link.protocol.lease
    link.send(octets[:cut])
    lane_bed.loop.until(lambda: lease.reads and lease.held >= len(octets[:cut]) - 14)
    link.protocol.go_away()
    assert not is_leased(link)
    link.send(octets[cut:])
    expected = server_frame(TEXT, noise(size, TEXT)) + GOING_AWAY
    assert link.receive(len(expected)) == expected


def test_going_away_over_unsent_answers(lane_bed: Bed) -> None:
    link = lane_bed.link(send_buffer=65_536)
    frame = client_frame(BINARY, noise(2**20), mask=KEY)
    sent = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0)
    link.protocol.go_away(at_once=True)
    link.end()
    found, rest = split(link.receive_all())
    assert rest == b""
    assert found[-1].payload == close_payload(1001, "going away")
    assert found[:-1] == [Frame(BINARY, noise(2**20))] * (len(found) - 1)
    assert 1 <= len(found) - 1 <= -(-sent // len(frame))


def test_traffic_in_the_pump_is_a_sign_of_life(native: Native, dial: Callable[[Bed], Link]) -> None:
    with bed(native, ping_interval=4, ping_timeout=2) as made:
        link, loop = dial(made), made.loop
        for _ in range(20):
            echoed(link, TEXT, b"alive")
            loop.pump([TICK] * 10)
        assert is_leased(link), "never pinged"
        loop.pump([TICK] * 45)
        assert link.receive(2) == server_frame(PING)
        assert not is_leased(link)
        link.send(client_frame(PONG))
        leased(link)
        loop.pump([TICK] * 30)
        assert made.factory.live
        loop.pump([TICK] * 60)
        loop.until(lambda: not made.factory.live)


def test_what_ends_a_lease_here_is_no_sign_of_life(lane_bed: Bed, link: Link) -> None:
    """A ping would come later for it, such as when the buffers of TLS are given back."""
    before = link.protocol.last_seen
    lane_bed.loop.pump([TICK] * 10)
    link.protocol.shrink()
    assert is_leased(link)
    assert link.protocol.last_seen == before


def test_who_is_given_up_is_reset(lane_bed: Bed, link: Link) -> None:
    link.send(client_frame(BINARY, bytes(100_000))[:-1])
    lane_bed.loop.until(lambda: held(lane_bed) > 0)
    lane_bed.factory.abort_all()
    assert held(lane_bed) == 0
    link.receive_all()
    assert link.was_reset
    assert not lane_of(lane_bed)._borrowers


def test_a_drain_closes_leased_connections_and_ends_the_lane(native: Native, dial: Callable[[Bed], Link]) -> None:
    with bed(native) as made:
        links = [dial(made) for _ in range(5)]
        drained = made.factory.drain()
        for link in links:
            link.send(client_frame(CLOSE, close_payload(1001)))
            assert link.receive_all() == GOING_AWAY
            link.end()
        made.loop.until(lambda: drained.called)
        assert made.factory.lane is None
        assert not made.loop.readers


def test_who_is_leaving_is_not_leased_again(lane_bed: Bed, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "unread", lambda _layers: 1)
    link.protocol.go_away()
    link.protocol.work()
    assert not is_leased(link)
    assert link.protocol.state == EchoProtocol.STATE_OPEN
    echoed(link, TEXT, b"what came before")
    link.protocol.go_away(at_once=True)
    lane_bed.loop.until(lambda: link.protocol.state == EchoProtocol.STATE_CLOSING)


def test_the_lane_stops_with_live_leases(lane_bed: Bed) -> None:
    links = [lane_bed.link() for _ in range(3)]
    lane, lane_bed.factory.lane = lane_of(lane_bed), None
    lane.stop()
    assert not any(map(is_leased, links))
    assert lane_bed.loop.readers == []
    lane.connectionLost(Failure(ConnectionAborted()))
    for link in links:
        link.transport.resumeProducing()
        echoed(link, TEXT, b"without the lane")


# The budget.


def test_the_lane_outlives_a_fault_in_what_it_tells(lane_bed: Bed, link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_bed.factory.budget, "_recount", lambda: 1 / 0)
    monkeypatch.setattr(lane_bed.factory.budget, "_limit", 1000)
    message = client_frame(BINARY, noise(100_000))
    with capturedLogs() as events:
        link.send(message[:-1])
        lane_bed.loop.until(lambda: bool(events))
    assert "ZeroDivisionError" in eventAsText(events[0])
    link.send(message[-1:])
    expected = server_frame(BINARY, noise(100_000))
    assert link.receive(len(expected)) == expected
    assert is_leased(link)


def test_a_tight_budget_ends_large_leases_and_the_small_go_on(native: Native, dial: Callable[[Bed], Link]) -> None:
    with bed(native, max_buffered=400_000, ping_interval=0, full_timeout=10) as made:
        hogs, modest = [dial(made) for _ in range(3)], dial(made)
        begun = client_frame(BINARY, bytes(190_000))[:80_000]
        memory.give_back()  # so that a buffer takes none before it is filled
        for hog in hogs:
            hog.send(begun)
        made.loop.until(lambda: made.factory.budget.is_tight)
        # All wait but the one whose turn it is.
        assert sorted((is_leased(hog), hog.protocol.is_waiting) for hog in hogs) == [
            (False, True),
            (False, True),
            (True, False),
        ]
        assert is_leased(modest)
        assert made.factory.budget.held >= 150_000
        echoed(modest, TEXT, b"small")
        echoed(modest, TEXT, noise(4_000, TEXT))
        assert is_leased(modest)
        modest.send(client_frame(BINARY, bytes(190_000))[:30_000])
        made.loop.until(lambda: modest.protocol.is_waiting)
        # Each has its turn first, and makes nothing of it.
        made.loop.pump([TICK] * 200)
        refused = [link for link in (*hogs, modest) if link.protocol.state != EchoProtocol.STATE_OPEN]
        assert len(refused) >= 2, "until there is room for those who are left"
        for link in refused:
            (close,) = split(link.receive_all())[0]
            assert close.payload[:2] == (1013).to_bytes(2, "big")
        for link in (*hogs, modest):
            link.end()
        made.loop.until(lambda: not made.factory.live)
        made.loop.pump([TICK] * 5)
        assert not made.factory.budget.is_tight
        late = dial(made)
        late.send(client_frame(BINARY, bytes(190_000))[:80_000])
        made.loop.until(lambda: is_leased(late) and late.protocol.count() > 70_000)


@pytest.mark.parametrize("when", ["reading", "writing"])
def test_a_tight_pump_keeps_no_unsent_answers(lane_bed: Bed, when: str) -> None:
    link = lane_bed.link(send_buffer=65_536)
    lease = link.protocol.lease
    if when == "reading":
        lane_of(lane_bed).set_tight(True)
    frame = client_frame(BINARY, noise(2_000), mask=KEY)
    sent = stuff(link, frame, lambda: not is_leased(link) or lease.unsent_size > 0)
    lane_of(lane_bed).set_tight(True)
    link.send(frame[sent % len(frame) :] if sent % len(frame) else b"")
    expected = server_frame(BINARY, noise(2_000)) * -(-sent // len(frame))
    assert link.receive(len(expected)) == expected
    echoed(link, TEXT, b"as before")
    assert is_leased(link)


def test_the_budget_takes_note_of_what_leases_hold() -> None:
    tight: list[bool] = []
    with Loop() as loop:
        holder = FakeHolder()
        budget = Budget(1000, [holder], Ticker(loop), tight.append)
        budget.note_leased(400)
        assert not tight
        holder.octets = 501
        budget.note_leased(501)
        assert (tight, budget.held) == ([True], 501)
        budget.note_leased(600)
        holder.octets = 0
        budget.note_leased(0)
        loop.pump([TICK] * 5)
        assert tight == [True, False]
        assert not loop.getDelayedCalls()


# What the lane can't do.


def with_library(native: Native, **changed: Any) -> Native:
    """The native module with some of its functions changed."""
    library = SimpleNamespace(**{name: getattr(native.lib, name) for name in dir(native.lib)} | changed)
    return Native(native.ffi, cast(Any, library))


def test_a_lost_read_aborts_the_connection(native: Native) -> None:
    lost: list[Any] = []

    def turn(pump: Any, budget: int) -> Any:
        for lease in lost:
            native.lib.echod_pump_recall(pump, lease)
            lease.why = native.lib.ECHOD_END_NO_MEMORY
            return lost.pop()
        return native.lib.echod_pump_turn(pump, budget)

    with bed(with_library(native, echod_pump_turn=turn)) as made:
        link = made.link()
        lost.append(link.protocol.lease)
        lane_of(made).doRead()
        assert not is_leased(link)
        link.receive_all()
        assert link.was_reset
        made.loop.until(lambda: not made.factory.live)
        assert_failed(made.factory)


def assert_failed(factory: EchoFactory) -> None:
    """Assert that a connection was ended by us, for no deadline and without a Close frame."""
    assert factory.counts.outcomes == {Outcome.FAILED: 1}
    assert factory.counts.closes == {("1006", Closer.SERVER): 1}


def test_without_epoll_the_codec_goes_on_alone(native: Native) -> None:
    codec_alone = with_library(native, echod_pump_new=lambda *_: native.ffi.NULL)
    with bed(codec_alone, ping_interval=0, max_buffered=100_000) as made:
        assert made.factory.lane is None
        assert describe_lane(codec_alone, made.factory) == f"codec alone ({native.isa})"
        link, calls = made.link(), count_calls(made.factory)
        echoed(link, TEXT, b"by the codec")
        assert calls == [b""]
        assert not is_leased(link)
        made.factory._set_tight(True)
        echoed(link, TEXT, b"by the codec")
    with Loop() as loop, pytest.raises(OSError, match="the pump can't be made"):
        Lane(codec_alone, 1, loop, print, max_fragments=1)


def count_calls(factory: EchoFactory) -> list[bytes]:
    """Note what each call of the codec leaves."""
    assert factory.codec is not None
    left: list[bytes] = []

    class Counting(Codec):
        def echo(self, octets: Octets, note: Callable[[int, int], None]) -> tuple[bytes, Octets]:
            answers, rest = super().echo(octets, note)
            left.append(bytes(rest))
            return answers, rest

    counting = Counting(factory.codec._native, factory.codec._limit)
    for connection in factory.live:
        connection._codec = counting
    factory.codec = counting
    return left


def test_a_socket_that_cannot_be_lent_is_served_by_the_codec(lane_bed: Bed) -> None:
    link = lane_bed.link()
    lane, borrower = lane_of(lane_bed), link.protocol
    assert not lane.lend(borrower, link.transport.fileno()), "epoll has it already"
    with open(__file__) as file:
        assert not lane.lend(borrower, file.fileno()), "epoll takes no files"
    lane.lend = lambda *_: False  # type: ignore[method-assign]
    other = lane_bed.link()
    assert not is_leased(other)
    echoed(other, TEXT, b"by the codec")
    assert other.transport in lane_bed.loop.readers


def test_who_gets_his_lease_back_may_end_anothers_that_has_ended_too(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [lane_bed.link() for _ in range(3)]
    returned: list[EchoProtocol] = []
    lease_ended = EchoProtocol.lease_ended

    def meddle(protocol: EchoProtocol, ended: Ended) -> None:
        returned.append(protocol)
        if len(returned) == 1:
            recalled, dropped = (link.protocol for link in links if link.protocol is not protocol)
            lane_of(lane_bed).recall(recalled)
            dropped.give_up()
        lease_ended(protocol, ended)

    monkeypatch.setattr(EchoProtocol, "lease_ended", meddle)
    for link in links:
        link.push(client_frame(PING, b"x"))
        assert transports.unread([link.transport]) == 7
    lane_of(lane_bed).doRead()
    assert returned == [links[0].protocol, links[1].protocol], "the first to end is the first to be given back"
    assert links[2].receive_all() == b""
    assert links[2].was_reset
    for link in links[:2]:
        assert link.receive(3) == server_frame(PONG, b"x")
        assert is_leased(link)


def test_a_lease_that_can_not_be_given_back_costs_one_connection_alone(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = lane_bed.link(), lane_bed.link()
    monkeypatch.setattr(broken.protocol, "lease_ended", lambda *_: 1 / 0)
    for link in (broken, whole):
        link.push(client_frame(PING, b"x"))
    assert whole.receive(3) == server_frame(PONG, b"x")
    lane_bed.loop.until(lambda: list(lane_bed.factory.live) == [whole.protocol])
    assert_failed(lane_bed.factory)
    echoed(whole, TEXT, b"still here")


def test_a_lease_that_can_not_be_lost_either_costs_one_connection_alone(
    lane_bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reactor drops whoever raises. Where memory is short, the log may raise as well."""
    broken, whole = lane_bed.link(), lane_bed.link()
    monkeypatch.setattr(broken.protocol, "lease_ended", lambda *_: 1 / 0)
    monkeypatch.setattr(broken.protocol, "lease_lost", lambda: 1 / 0)
    monkeypatch.setattr("echod.lane.fastpath._log", SimpleNamespace(failure=lambda _: 1 / 0))
    for link in (broken, whole):
        link.push(client_frame(PING, b"x"))
    assert whole.receive(3) == server_frame(PONG, b"x")
    assert lane_of(lane_bed) in lane_bed.loop.readers
    echoed(whole, TEXT, b"still here")
    monkeypatch.undo()
    broken.protocol.give_up()


def test_a_turn_that_fails_costs_that_turn_alone(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    link = lane_bed.link()
    with capturedLogs() as events, monkeypatch.context() as patch:
        patch.setattr(lane_bed.loop, "callLater", lambda *_: 1 / 0)
        echoed(link, BINARY, noise(2**20))  # its buffer is kept, and to be released later
    assert {event["log_format"] for event in events} == {"a turn of the pump failed"}
    assert lane_of(lane_bed) in lane_bed.loop.readers
    echoed(link, TEXT, b"still here")


def test_the_last_connection_may_stop_the_lane_within_a_turn(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    with bed(native, ping_interval=0) as made:
        lane, link = lane_of(made), made.link()
        monkeypatch.setattr(link.protocol, "lease_ended", lambda *_: lane.stop())
        link.push(client_frame(PING, b"x"))
        made.loop.until(lambda: lane not in made.loop.readers)
        made.factory.lane = None


# Deflated messages.


class FakeBorrower:
    """Keeps what it is told."""

    lease: Any = None

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.messages = 0

    def echoed(self, messages: int, octets: int) -> None:  # noqa: ARG002
        self.messages += messages

    def lease_ended(self, ended: Ended) -> None:
        self.ended.append(ended)

    def lease_grown(self) -> None:
        raise AssertionError

    def lease_lost(self) -> None:
        raise AssertionError


def terms(can_mirror: bool = True, keeps: bool = True, server_window_bits: int = 12) -> Terms:
    return Terms(15, server_window_bits, keeps, can_mirror, can_mirror)


def deflating(**changed: int) -> Deflating:
    functions = zlib_functions.find()
    assert functions is not None
    return Deflating(functions | changed, 1, 4, 64)


@contextmanager
def deflating_lane(native: Native, how: Deflating | None) -> Iterator[tuple[Lane, Loop, socket.socket, socket.socket]]:
    with Loop() as loop:
        client, served = socket.socketpair()
        lane = Lane(native, 2**20, loop, lambda _: None, max_fragments=8, deflating=how)
        try:
            client.settimeout(10)
            yield lane, loop, client, served
        finally:
            lane.stop()
            client.close()
            served.close()


@pytest.mark.parametrize("can_mirror", [True, False])
def test_deflated_messages_in_the_pump(native: Native, can_mirror: bool) -> None:
    compressor, said = zlib.compressobj(wbits=-15), b""
    with deflating_lane(native, deflating()) as (lane, loop, client, served):
        assert lane.takes_deflate
        borrower = FakeBorrower()
        for number in range(20):
            # Each lease goes on with the window of the one before.
            window = borrower.ended[-1].window if borrower.ended else b""
            assert window == said[-(2**15) :]
            assert lane.lend(borrower, served.fileno(), None, terms(can_mirror), window)
            payload = b"%d to be said again " % number * 200
            octets = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
            client.sendall(client_frame(TEXT, octets, rsv=4) + client_frame(PING))
            loop.until(lambda: len(borrower.ended) > number)  # noqa: B023  # it is called before the next
            ended = borrower.ended[-1]
            assert ended.rest == client_frame(PING)
            ((opcode, answer),) = [(frame.opcode, frame.payload) for frame in split(client.recv(65536))[0]]
            assert (opcode, answer == octets) == (TEXT, can_mirror)
            if not can_mirror:
                assert zlib.decompressobj(-12).decompress(answer) == payload
            said += payload
        assert borrower.messages == 20


def test_the_small_fragmented_messages_of_a_read_are_answered_by_one_send(native: Native) -> None:
    client, served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # each send stays by itself
    with client, served, Loop() as loop:
        client.settimeout(10)
        lane = Lane(native, 2**20, loop, lambda _: None, max_fragments=8)
        try:
            borrower = FakeBorrower()
            assert lane.lend(borrower, served.fileno())
            client.sendall((client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, b"b")) * 100)
            loop.until(lambda: borrower.lease.messages == 100)
            assert client.recv(65536) == server_frame(TEXT, b"ab") * 100
        finally:
            lane.stop()


def test_deflated_messages_that_stand_each_by_itself_leave_no_window(native: Native) -> None:
    with deflating_lane(native, deflating()) as (lane, loop, client, served):
        borrower = FakeBorrower()
        assert lane.lend(borrower, served.fileno(), None, terms(keeps=False))
        client.sendall(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        loop.until(lambda: borrower.lease.messages)
        assert client.recv(10) == b"\xc2\x03\x4a\x04\x00"
        lane.recall(borrower)
        assert borrower.ended == [Ended(b"", b"", False, False)]


def test_a_lease_on_terms_that_zlib_does_not_take(native: Native) -> None:
    with deflating_lane(native, deflating()) as (lane, _, __, served):
        borrower = FakeBorrower()
        assert not lane.lend(borrower, served.fileno(), None, terms(can_mirror=False, server_window_bits=16))
        assert borrower.lease is None
        assert lane.lend(borrower, served.fileno(), None, terms(can_mirror=False))


def test_a_lane_without_zlib_or_with_one_that_is_none(native: Native) -> None:
    with deflating_lane(native, None) as (lane, *_):
        assert not lane.takes_deflate
    refuse: Any = native.ffi.callback("int(void *, int, const char *, int)", lambda *_: -6)
    with deflating_lane(native, deflating(inflateInit2_=int(native.ffi.cast("uintptr_t", refuse)))) as (lane, *_):
        assert not lane.takes_deflate


def test_no_streams_are_made_where_there_is_no_compression_or_no_zlib_to_be_had(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bed(native, compression=Compression.OFF) as made:
        assert not lane_of(made).takes_deflate
    with bed(native) as made:
        assert lane_of(made).takes_deflate
    monkeypatch.setattr(zlib_functions, "find", lambda: None)
    with bed(native) as made:
        assert not lane_of(made).takes_deflate


# What is counted.


def counted(factory: EchoFactory, lane: str) -> tuple[int, int, int, int]:
    """Messages and octets of text, then of binary messages, that were received by a lane; as many were sent."""
    received, sent = factory.traffic()[lane]
    numbers = tuple((of.text.messages, of.text.octets, of.binary.messages, of.binary.octets) for of in (received, sent))
    assert numbers[0] == numbers[1]
    return numbers[0]


def told(link: Link) -> tuple[int, int, int, int]:
    traffic = link.protocol.traffic
    return traffic.received_messages, traffic.received_octets, traffic.sent_messages, traffic.sent_octets


def test_what_leases_echoed_stays_counted(lane_bed: Bed) -> None:
    link = lane_bed.link()
    assert told(link) == (0, 0, 0, 0)
    echoed(link, TEXT, b"hello")
    echoed(link, BINARY, bytes(100_000))
    assert told(link) == (2, 100_005, 2, 100_005)
    assert link.protocol._traffic is None, "the lease has it"
    assert (link.protocol.lane_name, link.protocol.is_backpressured) == ("pump", False)
    link.send(client_frame(PING, b"x"))
    assert link.receive(3) == server_frame(PONG, b"x")
    echoed(link, TEXT, b"")
    assert told(link) == (3, 100_005, 3, 100_005), "two leases"
    other = lane_bed.link()
    echoed(other, TEXT, b"other")
    other.protocol.give_up()
    assert told(other) == (1, 5, 1, 5)
    assert counted(lane_bed.factory, "pump") == (3, 10, 1, 100_000)
    drained = lane_bed.factory.drain()
    link.push(client_frame(CLOSE, close_payload(1001)))
    lane_bed.loop.until(lambda: drained.called)
    assert counted(lane_bed.factory, "pump") == (3, 10, 1, 100_000), "also when there is no pump any more"


def test_what_the_codec_echoed_is_counted(lane_bed: Bed) -> None:
    link = lane_bed.link(DEFLATE, target="/?compression=deflate")
    assert link.protocol.lane_name == "codec"
    echoed(link, TEXT, b"hello")
    echoed(link, BINARY, bytes(100_000))
    assert told(link) == (2, 100_005, 2, 100_005)
    assert counted(lane_bed.factory, "codec") == (1, 5, 1, 100_000)
    assert counted(lane_bed.factory, "autobahn") == (0, 0, 0, 0)


# Who never takes the lane.


def test_who_logs_or_transforms_messages_is_served_by_autobahn(native: Native) -> None:
    with bed(native, log_messages=True) as made:
        link = made.link()
        echoed(link, TEXT, b"logged")
        assert (link.protocol.lease, link.protocol._codec) == (None, None)
    with bed(native) as made:
        link = made.link(target="/json")
        link.send(client_frame(TEXT, b"[1, 2]"))
        assert link.receive(7) == server_frame(TEXT, b"[1,2]")
        assert (link.protocol.lease, link.protocol._codec) == (None, None)


def test_uncompressed_messages_of_a_connection_that_keeps_a_compressor_are_the_codecs(lane_bed: Bed) -> None:
    link = lane_bed.link(DEFLATE, target="/?compression=deflate")
    calls = count_calls(lane_bed.factory)
    echoed(link, TEXT, b"plain" * 100)
    assert calls == [b""]
    assert not is_leased(link)
    link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
    assert link.receive(3) == server_frame(BINARY, b"a")
    assert calls == [b""], "a deflated one is not even tried"
    assert not is_leased(link)


NO_CONTEXT = f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"


@pytest.mark.parametrize(
    ("target", "header", "answer"),
    [
        ("/", DEFLATE, server_frame(BINARY, b"\x4a\x04\x00", rsv=4)),
        ("/", NO_CONTEXT, server_frame(BINARY, b"\x4a\x04\x00", rsv=4)),
        ("/?compression=deflate", NO_CONTEXT, server_frame(BINARY, b"a")),
    ],
)
def test_deflated_messages_are_the_pumps(lane_bed: Bed, target: str, header: str, answer: bytes) -> None:
    link = lane_bed.link(header, target=target)
    calls = count_calls(lane_bed.factory)
    for _ in range(3):
        link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        assert link.receive(len(answer)) == answer
    assert calls == []
    assert counted(lane_bed.factory, "pump") == (0, 0, 3, 3)


def test_the_lease_comes_back_when_what_took_long_is_done(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echod.core.turns.SHARE", 0)
    link = lane_bed.link(NO_CONTEXT, target="/?compression=deflate")
    payload = noise(500_000)
    compressor, expected = zlib.compressobj(wbits=-15), zlib.compressobj(1, zlib.DEFLATED, -12, 4)
    octets = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    answer = server_frame(BINARY, (expected.compress(payload) + expected.flush(zlib.Z_SYNC_FLUSH))[:-4], rsv=4)
    for _ in range(2):
        link.send(client_frame(BINARY, octets, rsv=4) + client_frame(PING, b"behind"))
        assert link.receive(len(answer) + 8) == answer + server_frame(PONG, b"behind")
        lane_bed.loop.until(lambda: link.protocol.lease is not None)
        echoed(link, TEXT, b"by the pump")
    assert counted(lane_bed.factory, "pump")[:2] == (2, 22)
    assert link.protocol.count() == 0


def test_the_window_goes_from_hand_to_hand(lane_bed: Bed) -> None:
    link = lane_bed.link(f"{DEFLATE}; client_max_window_bits")
    compressor, inflater, said = zlib.compressobj(wbits=-12), zlib.decompressobj(-15), b""
    for number in range(20):
        text = (f"message {number}, which refers to those before; " * 30).encode()
        octets = (compressor.compress(text) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert is_leased(link)
        assert link.protocol.extension.window == b"", "the lease has it"
        if number % 3 == 1:  # Autobahn's, from the first frame or from the second on
            link.send(client_frame(PING, b"1") + client_frame(TEXT, octets[:10], fin=False, rsv=4))
            assert link.receive(3) == server_frame(PONG, b"1")
            link.send(client_frame(CONTINUATION, octets[10:]))
        elif number % 3 == 2:
            link.send(client_frame(TEXT, octets[:10], fin=False, rsv=4) + client_frame(PING, b"1"))
            assert link.receive(3) == server_frame(PONG, b"1")
            assert link.protocol.extension.window == said[-4096:]
            link.send(client_frame(CONTINUATION, octets[10:]))
        else:
            link.send(client_frame(TEXT, octets, rsv=4))
        right = server_frame(TEXT, octets, rsv=4)
        assert link.receive(len(right)) == right
        assert inflater.decompress(octets + b"\0\0\xff\xff") == text
        said += text


def test_a_lease_that_is_not_given_leaves_the_window(lane_bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    link = lane_bed.link(DEFLATE)
    lane = lane_bed.factory.lane
    assert lane is not None
    link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
    assert link.receive(5) == server_frame(BINARY, b"\x4a\x04\x00", rsv=4)
    monkeypatch.setattr(lane, "lend", lambda *_: False)
    lane.recall(link.protocol)
    link.protocol.work()
    assert not is_leased(link)
    assert link.protocol.extension.window == b"a"


def test_without_zlibs_functions_deflated_messages_are_autobahns(
    native: Native, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zlib_functions, "find", lambda: None)
    with bed(native) as made:
        assert describe_lane(native, made.factory) == (
            f"pump and codec ({native.isa}), permessage-deflate by Autobahn (no libz.so.1: apt-get install zlib1g)"
        )
        link = made.link(DEFLATE)
        assert not is_leased(link)
        link.send(client_frame(BINARY, b"\x4a\x04\x00", rsv=4))
        assert link.receive(5) == server_frame(BINARY, b"\x4a\x04\x00", rsv=4)
        assert is_leased(made.link())


def test_a_transport_that_is_no_socket_is_served_by_the_codec(lane_bed: Bed) -> None:
    peer = Peer(lane_bed.factory)
    peer.open()
    calls = count_calls(lane_bed.factory)
    frame = client_frame(TEXT, b"x")
    assert peer.send(frame + frame[:3]) == server_frame(TEXT, b"x")
    assert calls == [frame[:3]]
    assert peer.send(frame[3:] + frame) == server_frame(TEXT, b"x") * 2
    assert len(calls) == 1, "within a frame it is Autobahn's"
    assert peer.send(frame) == server_frame(TEXT, b"x")
    assert calls == [frame[:3], b""]
    peer.lose()


@pytest_twisted.inlineCallbacks
def test_tls_is_served_by_the_codec_where_sessions_can_not_be_leased(
    certificate: Certificate, native: Native, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    monkeypatch.setattr(tls_sessions, "openssl", lambda: None)
    port = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}"
    service = make(port, native=native)
    service.startService()
    assert service.factory is not None
    assert f"express lane: pump and codec ({native.isa}), TLS by the codec alone" in lines
    calls = count_calls(service.factory)

    def talk() -> bytes:
        context = certificate.client()
        with context.wrap_socket(
            socket.create_connection(address(lines), timeout=10), server_hostname="localhost"
        ) as client:
            client.sendall(handshake())
            received = b""
            while not received.endswith(b"\r\n\r\n"):
                received += client.recv(65536)
            expected = len(server_frame(BINARY, bytes(100_000)))
            client.sendall(client_frame(BINARY, noise(100_000)) + client_frame(TEXT, b"x") + client_frame(CLOSE))
            received = b""
            while len(received) < expected + 5:
                received += client.recv(65536)
            return received

    received = yield deferToThread(talk)
    assert received == server_frame(BINARY, noise(100_000)) + server_frame(TEXT, b"x") + server_frame(CLOSE)
    assert calls
    yield service.stopService()


@pytest.mark.parametrize("step", [1000, 4096, 16384])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_large_frame_in_pieces_is_gathered_past_autobahn(lane_bed: Bed, opcode: int, step: int) -> None:
    peer = Peer(lane_bed.factory)
    peer.open()
    payload = noise(100_000, opcode)
    octets = (
        client_frame(TEXT, b"before")
        + client_frame(opcode, payload)
        + client_frame(PING)
        + client_frame(TEXT, b"behind")
    )
    answer = b""
    for start in range(0, len(octets), step):
        answer += peer.send(octets[start : start + step])
        assert peer.protocol._gathered == b""
        if 10_000 < start < 90_000:
            assert start - 2 * step < peer.protocol.count() <= 100_016
            assert peer.protocol._large is not None
            assert peer.protocol._large.size + peer.protocol.count_missing() == 100_000
    expected = [(TEXT, b"before"), (opcode, payload), (PONG, b""), (TEXT, b"behind")]
    assert answer == b"".join(server_frame(*frame) for frame in expected)
    peer.lose()


@pytest.mark.parametrize("at", [10, 50_000, 99_999])
def test_a_large_text_that_is_none_is_autobahns_to_refuse(lane_bed: Bed, bare: EchoFactory, at: int) -> None:
    payload = bytearray(noise(100_000, TEXT))
    payload[at:] = b"\xff" * (100_000 - at)
    octets = client_frame(TEXT, bytes(payload))
    answers = []
    for factory in (lane_bed.factory, bare):
        peer = Peer(factory)
        peer.open()
        answers.append(b"".join(peer.send(octets[start : start + 16384]) for start in range(0, len(octets), 16384)))
        peer.lose()
    assert answers[0] == answers[1]
    assert answers[0][2:4] == (1007).to_bytes(2, "big")


# On the real reactor.


@pytest_twisted.inlineCallbacks
def test_the_service_with_the_lane(native: Native, lines: list[str]) -> Generator[Any, Any, None]:
    service = make("tcp:0:interface=127.0.0.1", native=native)
    service.startService()
    factory = service.factory
    assert factory is not None
    assert f"express lane: pump and codec ({native.isa})" in lines
    clients = []
    for _ in range(20):
        clients.append((yield deferToThread(Client, address(lines))))
    for client in clients:
        for size in (0, 5, 200_000):
            assert (yield deferToThread(client.echo, b"x" * size)) == b"x" * size
    assert all(connection.lease is not None for connection in factory.live)
    assert len(factory.live) == 20
    stopped = service.stopService()
    for client in clients:
        assert (yield deferToThread(client.frame)) == Frame(CLOSE, close_payload(1001, "going away"))
        assert (yield deferToThread(client.leave)) == b""
    yield stopped
    assert factory.lane is None


@pytest_twisted.inlineCallbacks
def test_the_service_aborts_leased_connections(native: Native, lines: list[str]) -> Generator[Any, Any, None]:
    service = make("tcp:0:interface=127.0.0.1", native=native)
    service.startService()
    factory = service.factory
    assert factory is not None
    client = yield deferToThread(Client, address(lines))
    with client.socket:
        yield until(lambda: all(connection.lease is not None for connection in factory.live))
        stopped = service.stopService()
        factory.abort_all()
        yield stopped
        assert factory.lane is None


def test_the_lane_is_named(native: Native) -> None:
    with bed(None) as made:
        assert describe_lane(None, made.factory) == "off, Autobahn serves everything"
    with bed(native) as made:
        assert describe_lane(native, made.factory) == f"pump and codec ({native.isa})"


def test_the_environment_chooses(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(**environment: str) -> Native | None:
        options = Options(environment)
        options.parseOptions([])
        return options.native

    assert chosen() == chosen(ECHOD_NATIVE="1") == native
    assert chosen(ECHOD_NATIVE="0") is None
    monkeypatch.setitem(sys.modules, "echod.lane.native._native", None)
    assert chosen() is None
    for environment, words in (
        ({"ECHOD_NATIVE": "1"}, "is not built"),
        ({"ECHOD_NATIVE": "yes"}, "ECHOD_NATIVE=yes: expected 1"),
    ):
        err = io.StringIO()
        monkeypatch.setattr("sys.__stderr__", err)
        with pytest.raises(SystemExit) as exit_:
            chosen(**environment)
        assert exit_.value.code == 1
        assert err.getvalue().startswith("echod: ")
        assert words in err.getvalue()
        assert err.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ModuleNotFoundError("No module named '_cffi_backend'", name="_cffi_backend"),
            "needs _cffi_backend, which is not installed",
        ),
        (ImportError("wrong ELF class"), "cannot be loaded (wrong ELF class)"),
    ],
)
@pytest.mark.parametrize("mode", [None, "1"])
def test_a_native_module_of_no_use_is_told(
    monkeypatch: pytest.MonkeyPatch, native: Native, error: ImportError, words: str, mode: str
) -> None:
    class Broken(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "echod.lane.native._native":
                raise error

    assert native
    monkeypatch.delitem(sys.modules, "echod.lane.native._native")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(NativeError, match=re.escape(words)):
        load(mode)


# Writing at once.


class Socket:
    """A socket that takes so much at a time."""

    def __init__(self, *takes: int | OSError) -> None:
        self.takes = list(takes)
        self.sent: list[bytes] = []

    def send(self, octets: bytes) -> int:
        take = self.takes.pop(0)
        if isinstance(take, OSError):
            raise take
        self.sent.append(octets[:take])
        return take


class Transport(Connection):
    """A transport that keeps what it is to write later."""

    connected = True

    def __init__(self, socket_: Socket, waiting: bytes = b"") -> None:
        self.socket: Any = socket_
        self.dataBuffer = waiting
        self._tempDataLen = 0
        self.later: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.later.append(data)


@pytest.mark.parametrize(
    ("takes", "waiting", "sent", "later"),
    [
        ([6], b"", [b"octets"], []),
        ([3], b"", [b"oct"], [b"ets"]),
        ([BlockingIOError()], b"", [], [b"octets"]),
        ([BrokenPipeError()], b"", [], [b"octets"]),
        ([], b"first", [], [b"octets"]),
    ],
)
def test_what_the_kernel_does_not_take_at_once_is_written_later(
    takes: list[Any], waiting: bytes, sent: Any, later: Any
) -> None:
    transport = Transport(Socket(*takes), waiting)
    transports.write_now([transport], b"octets")
    assert (cast(Socket, transport.socket).sent, transport.later) == (sent, later)
    transport.connected = False
    transports.write_now([transport], b"lost")
    assert transport.later == [*later, b"lost"]


def test_plain_sockets_are_told_from_others(lane_bed: Bed, link: Link) -> None:
    assert transports.is_plain(transports.layers(cast(Any, link.transport)))
    assert not transports.is_plain(transports.layers(cast(Any, SimpleNamespace(transport=link.transport))))
    peer = Peer(lane_bed.factory)
    assert not transports.is_plain(transports.layers(peer.transport))
    peer.lose()


def test_what_a_lease_held_is_not_counted_once_it_is_ended(lane_bed: Bed, link: Link) -> None:
    """Also where the pump has nothing to do any more, so that no turn of it tells."""
    link.send(client_frame(BINARY, noise(100_000))[:-1])
    lane_bed.loop.until(lambda: link.protocol.count() >= 99_999)
    lane_bed.loop.until(lambda: lane_bed.factory.budget.total >= 99_999)
    link.protocol.give_up()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert lane_bed.factory.budget.total == 0

"""Leases at work: when a lease begins, why it ends, and what happens then.

These tests use real sockets on the real transport and the real pump. What holds for every socket that can be leased is
tried on a plain one and over each version of TLS; what TLS alone has is in test_tls_lane.py. The expected bytes come
from `tests.frames`; test_sameness.py shows that any bytes give the same with and without the lane.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable

import pytest
from twisted.internet.error import ConnectionAborted
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure

from echod.core.deadlines import TICK
from echod.echo import EchoProtocol
from echod.lane.leases import Lane
from echod.lane.native import Native
from echod.upstream import transports
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
    server_frame,
    split,
)
from tests.lane.links import (
    GOING_AWAY,
    FakeBorrower,
    counted,
    echoed,
    fragmented,
    has_taken_all,
    held,
    is_leased,
    lane_of,
    leased,
    noise,
    stuff,
    told,
)
from tests.loop import DEADLINE, Bed, Link, Loop, bed

# A lease and its end.


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


def test_octet_by_octet(link: Link) -> None:
    lease = link.protocol.lease
    octets = client_frame(TEXT, "aé€😀".encode() * 40) + client_frame(BINARY, b"\xff" * 130)
    for octet in octets:
        link.send(bytes([octet]))
    expected = server_frame(TEXT, "aé€😀".encode() * 40) + server_frame(BINARY, b"\xff" * 130)
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease


def test_pings_and_pongs_stay_in_the_lease(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = link.protocol.lease
    monkeypatch.setattr(link.protocol, "dataReceived", lambda _: pytest.fail("the pump doesn't ask the protocol"))
    for size in (0, 1, 125):
        reads = lease.reads
        link.send(client_frame(PONG, bytes(size)))
        link.loop.until(lambda: lease.reads > reads)  # noqa: B023  # the loop calls it before the next size
        link.send(client_frame(TEXT, b"beside") + client_frame(PING, noise(size)) + client_frame(TEXT, b"behind"))
        expected = server_frame(TEXT, b"beside") + server_frame(PONG, noise(size)) + server_frame(TEXT, b"behind")
        assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease
    assert (lease.messages, lease.octets) == (6, 36), "control frames are no messages"
    assert link.protocol.count() == 0


def test_octet_by_octet_with_control_frames(link: Link) -> None:
    lease = link.protocol.lease
    ping, pong = client_frame(PING, noise(125)), client_frame(PONG, noise(125))
    for octet in (
        client_frame(TEXT, b"in ", fin=False) + ping + pong + client_frame(CONTINUATION, b"two") + ping + pong + ping
    ):
        link.send(bytes([octet]))
    answer = server_frame(PONG, noise(125))
    expected = answer + server_frame(TEXT, b"in two") + answer * 2
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease
    assert link.protocol.count() == 0


@pytest.mark.parametrize("cut", [1, 2, 5, 7, 100])
@pytest.mark.parametrize("is_within_message", [False, True])
def test_a_control_frame_that_is_not_whole_is_handed_over(link: Link, cut: int, is_within_message: bool) -> None:
    first = client_frame(TEXT, b"frag", fin=False) if is_within_message else b""
    ping, rest = client_frame(PING, noise(125)), client_frame(CONTINUATION, b"mented") if is_within_message else b""
    reads = link.protocol.lease.reads
    link.send(first + ping[:cut])
    link.loop.until(lambda: link.protocol.lease.reads > reads and has_taken_all(link))
    link.protocol.take_back()
    assert not is_leased(link)
    link.send(ping[cut:] + rest + client_frame(TEXT, b"later"))
    expected = server_frame(PONG, noise(125)) + (server_frame(TEXT, b"fragmented") if is_within_message else b"")
    expected += server_frame(TEXT, b"later")
    assert link.receive(len(expected)) == expected
    leased(link)


@pytest.mark.parametrize("is_within_message", [False, True])
def test_echods_own_ping_stays_in_the_lease(link: Link, is_within_message: bool) -> None:
    lease, octets = link.protocol.lease, client_frame(TEXT, b"frag", fin=False) + client_frame(CONTINUATION, b"mented")
    if is_within_message:
        link.send(octets[:-1])
        link.loop.until(lambda: has_taken_all(link))
    last_seen = link.protocol.last_seen
    link.loop.pump([TICK] * 10)
    link.protocol.ping()
    assert link.receive(2) == server_frame(PING)
    assert link.protocol.last_seen == last_seen, "echod's own ping is no sign of life of the client"
    link.send(octets[-1:] if is_within_message else octets)
    assert link.receive(12) == server_frame(TEXT, b"fragmented")
    assert link.protocol.lease is lease


def test_echods_own_ping_goes_behind_the_answers_that_wait(lane_bed: Bed) -> None:
    link, frame = lane_bed.link(send_buffer=65_536), client_frame(BINARY, noise(60_000))
    times = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0) // len(frame)
    unsent, was_held = link.protocol.lease.unsent_size, held(lane_bed)
    link.protocol.ping()
    assert link.protocol.lease.unsent_size == unsent + 2
    assert link.protocol.is_backpressured
    assert held(lane_bed) > was_held, "the budget hears of it at once"
    assert lane_of(lane_bed)._held == held(lane_bed)
    found = split(link.receive(times * len(server_frame(BINARY, noise(60_000))) + 2))[0]
    assert found.count(Frame(PING, b"")) == 1
    assert len(found) == times + 1
    assert is_leased(link)


def test_a_ping_that_can_not_be_sent_ends_the_lease_of_a_tight_pump(lane_bed: Bed) -> None:
    link, frame = lane_bed.link(send_buffer=65_536), client_frame(BINARY, noise(60_000))
    times = stuff(link, frame, lambda: link.protocol.lease.unsent_size > 0) // len(frame)
    lane_of(lane_bed).set_tight(True)
    last_seen = link.protocol.last_seen
    link.loop.pump([TICK] * 10)
    link.protocol.ping()
    assert not is_leased(link)
    assert link.protocol.last_seen == last_seen
    found = split(link.receive(times * len(server_frame(BINARY, noise(60_000))) + 2))[0]
    assert found.count(Frame(PING, b"")) == 1


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
def test_autobahn_judges_what_is_wrong_at_once(lane_bed: Bed, link: Link, octets: bytes, code: int) -> None:
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
    monkeypatch.setattr("echod.lane.leases.TURN", 0)
    frame = client_frame(BINARY, bytes(1000)) * 60
    while flood.push(frame):
        """Send until the kernel takes no more, so that many reads wait."""
    modest.push(client_frame(TEXT, b"modest"))
    assert select.select([modest.transport], [], [], DEADLINE)[0], (
        "it comes, though not at once where the kernel is busy"
    )
    for _ in range(2):
        lane_of(lane_bed).doRead()
    assert modest.protocol.lease.messages == 1, "a turn of no time serves one socket, and then it is the other's turn"
    assert modest.receive(8) == server_frame(TEXT, b"modest")


def test_what_leases_echoed_stays_counted(lane_bed: Bed) -> None:
    link = lane_bed.link()
    assert told(link) == (0, 0, 0, 0)
    echoed(link, TEXT, b"hello")
    echoed(link, BINARY, bytes(100_000))
    assert told(link) == (2, 100_005, 2, 100_005)
    assert link.protocol._traffic is None, "the lease has it"
    assert (link.protocol.served_by, link.protocol.is_backpressured) == ("pump", False)
    link.protocol.take_back()
    link.protocol.lend()
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


# Fragmented messages.


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
    link.protocol.take_back()
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


def test_the_small_fragmented_messages_of_a_read_are_answered_by_one_send(native: Native) -> None:
    client, served = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # each send is a packet
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


def test_a_fragmented_message_under_way_is_echoed_before_going_away(lane_bed: Bed, link: Link) -> None:
    parts = fragmented(b"fragmented", 4, TEXT)
    link.send(parts[0] + parts[1][:3])
    lane_bed.loop.until(lambda: has_taken_all(link))
    link.protocol.go_away()
    link.send(parts[1][3:] + parts[2])
    expected = server_frame(TEXT, b"fragmented") + GOING_AWAY
    assert link.receive(len(expected)) == expected


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


def test_traffic_in_the_pump_is_a_sign_of_life(native: Native, dial: Callable[[Bed], Link]) -> None:
    with bed(native, ping_interval=4, ping_timeout=2) as made:
        link, loop = dial(made), made.loop
        for _ in range(20):
            echoed(link, TEXT, b"alive")
            loop.pump([TICK] * 10)
        assert is_leased(link), "never pinged"

        def after_a_tick(condition: Callable[[], object]) -> object:
            loop.advance(TICK)
            return condition()

        # Until the kernel's delayed acknowledgement of the last echo, which takes real time, the client may seem to be
        # taking answers.
        loop.until(lambda: after_a_tick(link.take))
        assert link.receive(2) == server_frame(PING)
        lease = link.protocol.lease
        reads = lease.reads
        link.send(client_frame(PONG))
        loop.until(lambda: lease.reads > reads)
        loop.pump([TICK] * 30)
        assert link.protocol.lease is lease
        assert made.factory.live
        loop.until(lambda: after_a_tick(lambda: not made.factory.live))


def test_a_lease_tells_when_it_read(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a look that comes late takes nothing for later than it was."""
    before = time.monotonic_ns()
    echoed(link, TEXT, b"alive")
    assert before <= link.protocol.lease.read_at <= time.monotonic_ns()
    monkeypatch.setattr("echod.websocket.lending.seconds_since", lambda _: 3.0)
    link.loop.pump([TICK] * 50)
    assert link.protocol.last_seen == link.loop.seconds() - 3
    seen = link.protocol.last_seen
    link.loop.pump([TICK] * 50)
    assert link.protocol.last_seen == seen, "nothing was read since"


def test_what_ends_a_lease_here_is_no_sign_of_life(lane_bed: Bed, link: Link) -> None:
    """Otherwise the next ping would come later, for example when the buffers of a TLS session are given back."""
    before = link.protocol.last_seen
    lane_bed.loop.pump([TICK] * 10)
    link.protocol.shrink()
    assert is_leased(link)
    assert link.protocol.last_seen == before


def test_a_connection_that_is_given_up_is_reset(lane_bed: Bed, link: Link) -> None:
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


def test_a_connection_that_leaves_is_not_leased_again(
    lane_bed: Bed, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transports, "unread", lambda _layers: 1)
    link.protocol.go_away()
    link.protocol.take_turn()
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


def test_connections_that_log_or_transform_messages_are_served_by_autobahn(native: Native) -> None:
    with bed(native, log_messages=True) as made:
        link = made.link()
        echoed(link, TEXT, b"logged")
        assert (link.protocol.lease, link.protocol._codec) == (None, None)
    with bed(native) as made:
        link = made.link(target="/json")
        link.send(client_frame(TEXT, b"[1, 2]"))
        assert link.receive(7) == server_frame(TEXT, b"[1,2]")
        assert (link.protocol.lease, link.protocol._codec) == (None, None)

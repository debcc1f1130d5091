"""The express lane over TLS: when the pump has a session, and what goes back to Twisted with the session.

The session and the transport are real. The client is Python's `ssl`, with an OpenSSL of its own; other clients are in
tests/interop. These tests are about what only TLS has. test_leases.py has what holds for plain sockets, too, and
test_sameness.py shows that any bytes give the same with and without the lane.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest

from echod.core.deadlines import TICK
from echod.lane.native import Native
from echod.run.report import describe_lane
from echod.upstream import tls_sessions
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, client_frame, server_frame, split
from tests.lane.links import GOING_AWAY, KEY, echoed, held, is_leased, lane_of, leased, noise, secure_link
from tests.loop import Bed, SecureLink, bed, wait_for_lease
from tests.tls import Certificate


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def link(request: pytest.FixtureRequest, lane_bed: Bed, certificate: Certificate) -> SecureLink:
    return secure_link(lane_bed, certificate, request.param)


# A lease and its end.


def test_many_messages_in_one_record_and_in_many(link: SecureLink) -> None:
    frames = [client_frame(TEXT, b"%d" % n, mask=KEY) for n in range(200)]
    expected = b"".join(server_frame(TEXT, b"%d" % n) for n in range(200))
    link.send(b"".join(frames))
    assert link.receive(len(expected)) == expected
    link.push_sealed(b"".join(map(link.seal, frames)))
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease.messages == 400


def test_records_with_control_frames_between_are_the_leases(link: SecureLink) -> None:
    frames = [
        client_frame(TEXT, b"a"),
        client_frame(PING, b"b"),
        client_frame(BINARY, noise(40_000)),
        client_frame(TEXT, b"c"),
    ]
    lease = link.protocol.lease
    link.push_sealed(b"".join(map(link.seal, frames)))
    expected = (
        server_frame(TEXT, b"a")
        + server_frame(PONG, b"b")
        + server_frame(BINARY, noise(40_000))
        + server_frame(TEXT, b"c")
    )
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease


# Complete and incomplete records, and what else TLS has.


@pytest.mark.parametrize("size", [5, 5_000, 40_000])
def test_sealed_octet_by_octet(link: SecureLink, size: int) -> None:
    lease = link.protocol.lease
    sealed = link.seal(client_frame(TEXT, noise(size, TEXT))) + link.seal(client_frame(BINARY, b"\xff"))
    step = 1 if size < 100 else 999
    for start in range(0, len(sealed), step):
        link.push_sealed(sealed[start : start + step])
        link.loop.turn()
    expected = server_frame(TEXT, noise(size, TEXT)) + server_frame(BINARY, b"\xff")
    assert link.receive(len(expected)) == expected
    assert link.protocol.lease is lease


@pytest.mark.parametrize("size", [5, 30_000])
@pytest.mark.parametrize("cut", [1, 4, 5, 20, -1])
def test_a_lease_that_ends_within_a_record_goes_on_there(lane_bed: Bed, link: SecureLink, size: int, cut: int) -> None:
    payload = noise(size, TEXT)
    sealed, reads = link.seal(client_frame(TEXT, payload)), link.protocol.lease.reads
    link.push_sealed(sealed[:cut])
    lane_bed.loop.until(lambda: link.protocol.lease.reads > reads)
    link.protocol.take_back()
    assert not is_leased(link)
    link.push_sealed(sealed[cut:] + link.seal(client_frame(PING)))
    expected = server_frame(TEXT, payload) + server_frame(PONG)
    assert link.receive(len(expected)) == expected
    leased(link)
    echoed(link, TEXT, b"later")


def test_a_lease_that_begins_within_a_record_goes_on_there(link: SecureLink) -> None:
    ping, sealed = link.seal(client_frame(PING, b"x")), link.seal(client_frame(TEXT, b"cut"))
    link.protocol.take_back()
    link.push_sealed(ping + sealed[:10])
    assert link.receive(3) == server_frame(PONG, b"x")
    lease = leased(link).protocol.lease
    link.push_sealed(sealed[10:])
    assert link.receive(5) == server_frame(TEXT, b"cut")
    assert link.protocol.lease is lease


@pytest.mark.parametrize("in_one", [False, True])
def test_a_close_notify_behind_a_message(lane_bed: Bed, link: SecureLink, in_one: bool) -> None:
    sealed = link.seal(client_frame(TEXT, b"last"))
    if not in_one:
        link.push_sealed(sealed)
        lane_bed.loop.turn(1)
        sealed = b""
    with pytest.raises(ssl.SSLWantReadError):
        link.tls.unwrap()
    link.push_sealed(sealed + link.outgoing.read())
    # A session that has sent a close_notify reads no more, but the bytes that it was sent are on the socket.
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    sent = link.socket.recv(2**16)
    assert len(sent) > len(server_frame(TEXT, b"last")) + 2 * 20, "the answer's record, and a close_notify"


@pytest.mark.parametrize("message", [b"", client_frame(TEXT, b"not whole")[:-1]])
def test_a_fin_without_a_close_notify(lane_bed: Bed, link: SecureLink, message: bytes) -> None:
    echoed(link, TEXT, b"whole")
    if message:
        link.send(message)
    link.socket.shutdown(1)
    assert link.receive_all() == b""
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert held(lane_bed) == 0


def test_a_record_that_is_wrong_ends_one_connection_alone(
    lane_bed: Bed, link: SecureLink, certificate: Certificate
) -> None:
    other = leased(lane_bed.secure_link(certificate))
    plain = lane_bed.link()
    echoed(link, TEXT, b"right")
    sealed = bytearray(link.seal(client_frame(TEXT, b"wrong")))
    sealed[-1] ^= 1
    link.push_sealed(bytes(sealed))
    other.push(client_frame(TEXT, b"other"))
    plain.push(client_frame(TEXT, b"plain"))
    for _ in range(3):
        lane_of(lane_bed).doRead()
    assert other.receive(7) == server_frame(TEXT, b"other")
    assert plain.receive(7) == server_frame(TEXT, b"plain")
    with pytest.raises(ssl.SSLError, match=r"(?i)bad.record.mac"):
        link.receive_all()
    assert not link.received
    lane_bed.loop.until(lambda: link.protocol not in lane_bed.factory.live)
    assert is_leased(other)
    echoed(other, TEXT, b"still here")


def test_a_reset_by_the_peer_ends_the_connection(lane_bed: Bed, link: SecureLink) -> None:
    link.send(client_frame(BINARY, noise(60_000))[:-1])
    link.reset()
    lane_bed.loop.until(lambda: not lane_bed.factory.live)
    assert held(lane_bed) == 0
    assert not lane_of(lane_bed)._borrowers


# Large messages, and clients that don't read.


def stuff(link: SecureLink, octets: bytes, is_full: Callable[[], bool]) -> int:
    """Send `octets` again and again without reading, until the server reads no more. Return how many times."""
    for times in range(200):
        while not link.push_sealed():
            if is_full():
                # What was not sent yet follows when the server reads again.
                return times
            link.loop.turn(0.01)
        link.push_sealed(link.seal(octets))
    return pytest.fail("it was never full")


def waits(link: SecureLink) -> bool:
    lease = link.protocol.lease
    return lease is not None and lease.sealed_size > 0


@pytest.fixture(params=[100, 60_000, 2**20])
def stuffed(request: pytest.FixtureRequest, lane_bed: Bed, certificate: Certificate) -> tuple[SecureLink, int, int]:
    """Return a link whose client doesn't read, the size of its messages, and how many were sent."""
    link = leased(lane_bed.secure_link(certificate, send_buffer=65_536))
    size = request.param
    message = client_frame(BINARY, noise(size), mask=KEY) * max(1, 2**20 // size)
    return link, size, stuff(link, message, partial(waits, link)) * max(1, 2**20 // size)


def test_a_client_that_does_not_read_is_not_read_and_gets_all_in_the_end(
    lane_bed: Bed, stuffed: tuple[SecureLink, int, int]
) -> None:
    link, size, messages = stuffed
    lease = link.protocol.lease
    assert link.protocol.count() == held(lane_bed) >= lease.sealed_size + lease.unsent_size
    assert link.protocol.count_pending() >= lease.sealed_size + lease.unsent_size
    assert held(lane_bed) <= 2 * max(size, 65_536) + 2 * 80 * 1024
    expected = server_frame(BINARY, noise(size)) * messages
    assert link.receive(len(expected)) == expected
    lane_bed.loop.until(lambda: held(lane_bed) == 0)
    assert link.protocol.lease is lease
    echoed(link, TEXT, b"as before")


def test_what_is_unsent_goes_back_in_order(lane_bed: Bed, stuffed: tuple[SecureLink, int, int]) -> None:
    link, size, messages = stuffed
    lane_of(lane_bed).recall(link.protocol)
    assert not is_leased(link)
    expected = server_frame(BINARY, noise(size)) * messages
    assert link.receive(len(expected)) == expected
    echoed(link, TEXT, b"as before")
    leased(link)


def test_going_away_over_unsent_answers(lane_bed: Bed, stuffed: tuple[SecureLink, int, int]) -> None:
    link, size, messages = stuffed
    link.protocol.go_away(at_once=True)
    lane_bed.loop.until(lambda: link.take().endswith(GOING_AWAY))
    found, rest = split(bytes(link.received))
    assert rest == b""
    assert found[:-1] == [Frame(BINARY, noise(size))] * (len(found) - 1)
    assert 1 <= len(found) - 1 <= messages + 1


@pytest.mark.parametrize("odd", [client_frame(CLOSE), b""], ids=["a Close frame", "a close_notify"])
def test_what_is_odd_is_seen_behind_an_answer_that_waits(lane_bed: Bed, certificate: Certificate, odd: bytes) -> None:
    link = leased(lane_bed.secure_link(certificate, send_buffer=4096))
    size = 5 * 2**20
    sealed = link.seal(client_frame(BINARY, noise(size), mask=KEY))
    if odd:
        sealed += link.seal(odd)
    else:
        with pytest.raises(ssl.SSLWantReadError):
            link.tls.unwrap()
    link.push_sealed(sealed)
    while is_leased(link):
        lane_bed.loop.advance(TICK)
        lane_bed.loop.turn(0.01)
        link.push_sealed()
    if odd:
        expected = server_frame(BINARY, noise(size)) + server_frame(CLOSE)
        assert link.receive(len(expected)) == expected
    else:
        lane_bed.loop.until(lambda: link.outer._lostTLSConnection)


@pytest.mark.parametrize("size", [2_000, 100_000])
def test_a_tight_pump_keeps_no_unsent_answers(lane_bed: Bed, certificate: Certificate, size: int) -> None:
    link = leased(lane_bed.secure_link(certificate, send_buffer=65_536))
    message = client_frame(BINARY, noise(size), mask=KEY) * (100_000 // size)
    times = stuff(link, message, partial(waits, link))
    lane_of(lane_bed).set_tight(True)
    expected = server_frame(BINARY, noise(size)) * (100_000 // size) * times
    assert link.receive(len(expected)) == expected
    echoed(link, TEXT, b"as before")


def test_a_tight_pump_reads_little(lane_bed: Bed, link: SecureLink) -> None:
    lane_of(lane_bed).set_tight(True)
    echoed(link, TEXT, noise(3_000, TEXT))
    for _ in range(3):
        echoed(link, BINARY, noise(200))
    echoed(link, BINARY, noise(30_000))
    echoed(link, TEXT, b"small")


# What others ask of a leased connection.


# When there is no lease.


def test_octets_that_come_before_the_lease_has_begun(lane_bed: Bed, certificate: Certificate) -> None:
    link = lane_bed.secure_link(certificate)
    for number in range(20):
        link.push(client_frame(TEXT, b"%d" % number))
    expected = b"".join(server_frame(TEXT, b"%d" % number) for number in range(20))
    assert link.receive(len(expected)) == expected
    leased(link)


def test_a_client_that_has_gone_before_the_lease_begins_gets_none(lane_bed: Bed, link: SecureLink) -> None:
    protocol = link.protocol
    lane_of(lane_bed).recall(protocol)
    protocol.lend_after_read()
    protocol.fail(1008, "first")
    lane_bed.loop.turn()
    assert not is_leased(link)


def test_a_deflated_message_is_the_pumps(lane_bed: Bed, certificate: Certificate) -> None:
    link = lane_bed.secure_link(certificate, "Sec-WebSocket-Extensions: permessage-deflate")
    wait_for_lease(link.protocol, lane_bed.loop, partial(echoed, link, TEXT, b"a"))
    for frame in (client_frame(TEXT, b"\x4a\x04\x00", rsv=4), client_frame(TEXT, b"\x4a", rsv=4, fin=False)):
        link.send(frame)
    link.send(client_frame(CONTINUATION, b"\x04\x00"))
    expected = server_frame(TEXT, b"\x4a\x04\x00", rsv=4) * 2
    assert link.receive(len(expected)) == expected
    assert is_leased(link)


@pytest.mark.parametrize(
    ("name", "value"),
    [("_handshakeDone", False), ("_lostTLSConnection", True), ("_aborted", True), ("_appSendBuffer", [b"x"])],
)
def test_a_session_in_which_something_is_under_way_is_not_lent(
    lane_bed: Bed, link: SecureLink, name: str, value: object
) -> None:
    lane_of(lane_bed).recall(link.protocol)
    assert tls_sessions.session(link.protocol.carrier._layers) is not None
    was = getattr(link.outer, name)
    setattr(link.outer, name, value)
    assert tls_sessions.session(link.protocol.carrier._layers) is None
    setattr(link.outer, name, was)


def test_a_session_that_has_something_to_send_is_not_lent(lane_bed: Bed, link: SecureLink) -> None:
    lane_of(lane_bed).recall(link.protocol)
    link.outer.getHandle().send(b"sealed")
    session = tls_sessions.session(link.protocol.carrier._layers)
    assert session is not None
    assert not lane_of(lane_bed).lend(link.protocol, link.transport.fileno(), session)
    tls_sessions.flush_session(link.protocol.carrier._layers)
    assert link.receive(6) == b"sealed"


def test_without_the_functions_tls_is_the_codecs(
    native: Native, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_sessions, "openssl", lambda: None)
    with bed(native, ping_interval=0) as made:
        assert not lane_of(made).takes_tls
        assert describe_lane(native, made.factory) == f"pump and codec ({native.isa}), TLS by the codec alone"
        link = made.secure_link(certificate)
        echoed(link, TEXT, b"by the codec")
        echoed(link, BINARY, noise(300_000))
        assert not is_leased(link)
        assert tls_sessions.session(link.protocol.carrier._layers) is None
        assert is_leased(cast(Any, made.link()))

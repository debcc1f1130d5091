"""The buffers of TLS sessions are freed: OpenSSL's memory BIOs never shrink, so new BIOs replace grown ones.

The sessions are real, on real sockets, with the pump and without it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any, cast

import pytest
from OpenSSL import SSL

from echod.core.deadlines import TICK
from echod.core.quantities import KIB
from echod.lane.native import Native
from echod.upstream import tls_sessions
from echod.websocket import factory
from echod.websocket.factory import GROWN_TIME
from echod.websocket.lending import MOST_MOVED
from tests.frames import BINARY, PING, PONG, TEXT, client_frame, server_frame
from tests.lane.links import KEY, echoed, is_leased, leased, noise, secure_link
from tests.lane.test_tls_lane import stuff, waits
from tests.loop import Bed, SecureLink, bed
from tests.tls import Certificate


class Mallinfo(ctypes.Structure):
    """The memory that glibc's allocator has handed out: `struct mallinfo2` (mallinfo(3))."""

    # The ten names, in the order of the struct.
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def allocated() -> int:
    """Return the bytes in use. Free memory does not count, even if it was not given back to the kernel."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallinfo2"):
        pytest.skip("needs mallinfo2 of glibc 2.33")
    library.mallinfo2.restype = Mallinfo
    found = library.mallinfo2()
    if not found.uordblks:
        pytest.skip("needs glibc's own allocator: another, such as a sanitizer's, is in its place")
    return int(found.uordblks + found.hblkhd)


@pytest.fixture(params=["pump", "codec", "autobahn"])
def made(request: pytest.FixtureRequest, native: Native, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bed]:
    """Make a bed with the pump, with the codec alone, and without native code."""
    with bed(None if request.param == "autobahn" else native, ping_interval=0) as it:
        if request.param == "codec":
            assert it.factory.lane is not None
            monkeypatch.setattr(it.factory.lane, "takes_tls", False)
        yield it


def dial(made: Bed, certificate: Certificate, version: str = "TLSv1_3") -> SecureLink:
    has_lane = made.factory.lane is not None and made.factory.lane.takes_tls
    return secure_link(made, certificate, version) if has_lane else made.secure_link(certificate)


def wait(made: Bed, seconds: float = GROWN_TIME + 2 * TICK) -> None:
    made.loop.pump([TICK] * round(seconds / TICK + 1))
    made.loop.turn()


@pytest.fixture(params=["TLSv1_2", "TLSv1_3"])
def link(request: pytest.FixtureRequest, made: Bed, certificate: Certificate) -> SecureLink:
    link = dial(made, certificate, request.param)
    wait(made)
    return link


LINKS = 8


def test_the_memory_of_a_large_message_is_freed(made: Bed, certificate: Certificate) -> None:
    links = [dial(made, certificate) for _ in range(LINKS)]
    wait(made)
    was_leased = [is_leased(link) for link in links]
    for link in links:
        echoed(link, BINARY, noise(64 * KIB))
    full = allocated()
    wait(made)
    assert full - allocated() > LINKS * 60 * KIB, "given back"
    assert not made.factory._grown
    assert [is_leased(link) for link in links] == was_leased
    for link in links:
        echoed(link, BINARY, noise(64 * KIB))
        echoed(link, TEXT, b"as before")


def test_the_memory_of_a_busy_connection_is_freed_too(made: Bed, link: SecureLink) -> None:
    echoed(link, BINARY, noise(64 * KIB))
    first = parts(link)
    for _ in range(round(2 * GROWN_TIME / TICK)):
        made.loop.advance(TICK)
        echoed(link, BINARY, noise(5_000))
        if parts(link) != first:
            break
    assert parts(link) != first


def parts(link: SecureLink) -> tuple[Any, Any]:
    connection = link.outer.getHandle()
    return connection._into_ssl, connection._from_ssl


@pytest.mark.parametrize("size", [5, 5_000, 60_000])
@pytest.mark.parametrize("cut", [1, 5, 20, -1])
def test_a_part_of_a_record_is_kept(made: Bed, link: SecureLink, size: int, cut: int) -> None:
    payload = noise(size, TEXT)
    echoed(link, BINARY, noise(64 * KIB))
    before = parts(link)
    sealed = link.seal(client_frame(TEXT, payload, mask=KEY))
    link.push_sealed(sealed[:cut])
    made.loop.turn(0.01)
    wait(made, 3 * GROWN_TIME)
    assert parts(link) != before
    link.push_sealed(sealed[cut:])
    expected = server_frame(TEXT, payload)
    assert link.receive(len(expected)) == expected


def test_a_client_that_reads_late_gets_everything(made: Bed, certificate: Certificate) -> None:
    """The buffers stay in use until the client has read their content."""
    link = made.secure_link(certificate, send_buffer=65_536)
    if made.factory.lane is not None and made.factory.lane.takes_tls:
        leased(link)
    message = client_frame(BINARY, noise(2**20), mask=KEY)
    times = stuff(link, message, lambda: waits(link) if is_leased(link) else link.protocol.is_backlogged)
    wait(made, 3 * GROWN_TIME)
    if is_leased(link):
        assert link.protocol.lease.held > MOST_MOVED
        assert link.protocol in made.factory._grown
    expected = server_frame(BINARY, noise(2**20)) * times
    assert link.receive(len(expected)) == expected
    full = allocated()
    wait(made)
    assert link.protocol not in made.factory._grown
    assert not is_leased(link) or full - allocated() > 80 * KIB
    echoed(link, TEXT, b"as before")


def test_the_oldest_of_many_grown_buffers_are_freed_at_once(
    made: Bed, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = [dial(made, certificate) for _ in range(3)]
    wait(made)
    monkeypatch.setattr(factory, "MOST_GROWN", 2)
    before = [parts(link) for link in links]
    for link in links:
        echoed(link, BINARY, noise(64 * KIB))
    made.loop.until(lambda: parts(links[0]) != before[0])
    assert len(made.factory._grown) == 2


def test_the_next_lease_leaves_no_grown_buffer_behind(made: Bed, link: SecureLink) -> None:
    """A lease ends and another begins; neither leaves a buffer behind."""
    echoed(link, BINARY, noise(64 * KIB))
    link.protocol.take_back()
    link.send(client_frame(PING, b"x"))
    assert link.receive(3) == server_frame(PONG, b"x")
    wait(made)
    assert not made.factory._grown
    echoed(link, TEXT, b"as before")


def test_nothing_is_left_of_a_connection_that_is_lost(made: Bed, link: SecureLink) -> None:
    echoed(link, BINARY, noise(64 * KIB))
    assert link.protocol in made.factory._grown
    link.protocol.shrink()
    link.reset()
    made.loop.until(lambda: not made.factory.live)
    assert not made.factory._grown
    link.protocol.shrink()


# The session itself.


@pytest.fixture
def bare(certificate: Certificate) -> Iterator[SecureLink]:
    with bed(None, ping_interval=0) as made:
        yield made.secure_link(certificate)


def test_buffers_with_octets_in_them_are_not_replaced(bare: SecureLink) -> None:
    layers, connection = bare.protocol.carrier._layers, bare.outer.getHandle()
    before = parts(bare)
    sealed = bare.seal(client_frame(TEXT, b"received"))
    connection.bio_write(sealed)
    assert not tls_sessions.renew_buffers(layers)
    bare.protocol.shrink()
    assert parts(bare) == before
    tls_sessions.read_session(layers)
    expected = server_frame(TEXT, b"received")
    assert bare.receive(len(expected)) == expected
    connection.send(b"sealed")
    assert not tls_sessions.renew_buffers(layers)
    tls_sessions.flush_session(layers)
    assert bare.receive(6) == b"sealed"
    assert tls_sessions.renew_buffers(layers)
    assert parts(bare) != before


@pytest.mark.parametrize(
    ("name", "value"), [("_handshakeDone", False), ("_lostTLSConnection", True), ("_aborted", True)]
)
def test_a_session_that_does_something_else_keeps_its_buffers(
    bare: SecureLink, name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr(bare.outer, name, value)
        assert not tls_sessions.renew_buffers(bare.protocol.carrier._layers)
    assert tls_sessions.renew_buffers(bare.protocol.carrier._layers)


@pytest.mark.parametrize("made_before", [0, 1])
def test_without_memory_the_buffers_stay(bare: SecureLink, made_before: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library, before = cast(Any, SSL)._lib, parts(bare)
    make = library.BIO_new
    made = [make(library.BIO_s_mem()) for _ in range(made_before)]
    with monkeypatch.context() as changed:
        changed.setattr(library, "BIO_new", lambda _: made.pop() if made else cast(Any, SSL)._ffi.NULL)
        assert not tls_sessions.renew_buffers(bare.protocol.carrier._layers)
    assert parts(bare) == before
    echoed(bare, TEXT, b"as before")


def test_without_a_known_session_nothing_is_replaced(bare: SecureLink, monkeypatch: pytest.MonkeyPatch) -> None:
    before = parts(bare)
    assert tls_sessions.renew_buffers(bare.protocol.carrier._layers[1:])
    monkeypatch.setattr(tls_sessions, "openssl", lambda: None)
    assert tls_sessions.renew_buffers(bare.protocol.carrier._layers)
    assert parts(bare) == before

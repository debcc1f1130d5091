"""The codec alone: it serves the connections whose sockets cannot be leased."""

from __future__ import annotations

import socket
from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from echod.lane.leases import Lane
from echod.lane.native import Native
from echod.run.report import describe_lane
from echod.upstream import tls_sessions
from tests.fakes import Peer
from tests.frames import BINARY, CLOSE, DEFLATE, TEXT, client_frame, handshake, server_frame
from tests.lane.links import (
    count_calls,
    counted,
    echoed,
    is_leased,
    lane_of,
    noise,
    told,
    with_library,
)
from tests.loop import Bed, Loop, bed
from tests.run.test_service import address, make
from tests.tls import Certificate


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


def test_what_the_codec_echoed_is_counted(lane_bed: Bed) -> None:
    link = lane_bed.link(DEFLATE, target="/?compression=deflate")
    assert link.protocol.served_by == "codec"
    echoed(link, TEXT, b"hello")
    echoed(link, BINARY, bytes(100_000))
    assert told(link) == (2, 100_005, 2, 100_005)
    assert counted(lane_bed.factory, "codec") == (1, 5, 1, 100_000)
    assert counted(lane_bed.factory, "autobahn") == (0, 0, 0, 0)

"""One HTTP/2 connection between a client of h2's and a real factory, over a fake transport."""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from echod.core.deadlines import TICK
from echod.http.h2 import frames
from echod.http.h2.session import FIRST_WINDOW, LEAVING, TABLE_SIZE, UNTOLD_STREAMS
from echod.http.h2.stream import Stream
from echod.settings import Http2Mode, Settings
from echod.upstream.carriers import Carrier
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, TEXT, client_frame, close_payload, server_frame
from tests.frames import Frame as Message
from tests.h2_client import Exchange, Http2Client, exchange

DEFAULT = Settings()


@pytest.fixture
def clock() -> Clock:
    """Return the factory's clock."""
    return Clock()


def raw(made: Exchange, *sent: Frame | bytes) -> None:
    """Send frames that h2's client would not send."""
    for frame in sent:
        made.session.dataReceived(frame if isinstance(frame, bytes) else frame.serialize())
    made.go()


def ended_with(made: Exchange) -> tuple[ErrorCodes, str]:
    """Return the code and the reason with which the server has ended the connection."""
    assert made.client.goaway is not None
    assert made.transport.half_closed
    return made.client.goaway.code, made.client.goaway.why


class TestSettings:
    """What the server announces."""

    def test_they_are_the_first_frame(self, clock: Clock) -> None:
        made = exchange(clock)
        assert made.client.settings == {
            SettingCodes.MAX_CONCURRENT_STREAMS: DEFAULT.max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: DEFAULT.max_request_head,
            SettingCodes.INITIAL_WINDOW_SIZE: FIRST_WINDOW,
            SettingCodes.MAX_FRAME_SIZE: DEFAULT.max_frame,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        }
        assert made.client.h2.outbound_flow_control_window == DEFAULT.max_connection_window

    def test_a_header_list_shorter_than_a_request_head(self, clock: Clock) -> None:
        made = exchange(clock, max_header_list=2048)
        assert made.client.settings[SettingCodes.MAX_HEADER_LIST_SIZE] == 2048

    def test_without_websockets(self, clock: Clock) -> None:
        made = exchange(clock, http2=Http2Mode.NO_WEBSOCKET)
        assert SettingCodes.ENABLE_CONNECT_PROTOCOL not in made.client.settings
        number = made.client.connect()
        made.go()
        assert made.client.resets == {number: ErrorCodes.PROTOCOL_ERROR}
        assert made.refused(made.client.request())[0] == "426"

    def test_without_http2(self, clock: Clock) -> None:
        peer = Peer(make_factory(clock, http2=Http2Mode.OFF))
        assert peer.send(frames.PREFACE).startswith(b"HTTP/1.1 505 ")

    def test_the_first_window_is_a_share_of_the_room(self, clock: Clock) -> None:
        made = exchange(clock, make_factory(clock, max_connections=1000, max_buffered=64 * 2**20))
        assert made.client.settings[SettingCodes.INITIAL_WINDOW_SIZE] == 64 * 2**20 // 8 // 1000
        made = exchange(clock, make_factory(clock, max_connections=10**6))
        assert made.client.settings[SettingCodes.INITIAL_WINDOW_SIZE] == DEFAULT.min_window


def test_a_preface_in_pieces(clock: Clock) -> None:
    peer = Peer(make_factory(clock))
    peer.transport.protocol = peer.protocol  # type: ignore[attr-defined]
    made = Exchange(peer.transport, lambda: clock.advance(0))
    for octet in made.client.to_send():
        peer.transport.protocol.dataReceived(bytes([octet]))  # type: ignore[attr-defined]
    made.go()
    assert made.client.says_connect()
    assert made.echo(made.opened(), client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]


def test_several_streams_each_with_its_own_end(clock: Clock) -> None:
    made = exchange(clock)
    one, two, three = made.opened(), made.opened("/json"), made.opened("/?close=4000&after=1")
    assert made.echo(one, client_frame(TEXT, b"[1, 2]")) == [Message(TEXT, b"[1, 2]")]
    assert made.echo(two, client_frame(TEXT, b"[1, 2]")) == [Message(TEXT, b"[1,2]")]
    assert made.echo(three, client_frame(TEXT, b"x"))[-1] == Message(CLOSE, close_payload(4000))
    assert made.echo(one, client_frame(CLOSE, close_payload(1000))) == [Message(CLOSE, close_payload(1000))]
    assert made.client.ended == {one}
    made.client.h2.end_stream(one)
    made.go()
    assert made.session.streams.keys() == {two, three}
    assert made.echo(two, client_frame(TEXT, b"1")) == [Message(TEXT, b"1")]


def test_a_ping_is_answered(clock: Clock) -> None:
    made = exchange(clock)
    made.client.h2.ping(b"12345678")
    made.go()
    assert "PingAckReceived" in str(made.client.events[-1:])


def test_trailers_end_a_stream(clock: Clock) -> None:
    made = exchange(clock)
    number = made.opened()
    made.client.h2.send_headers(number, [("a", "b")], end_stream=True)
    made.go()
    assert made.client.ended == {number}
    assert not made.session.streams


def test_one_stream_too_many_is_refused_and_the_others_go_on(clock: Clock) -> None:
    made = exchange(clock, max_streams=2)
    one, _ = made.opened(), made.opened()
    del made.client.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS]
    third = made.client.connect()
    made.go()
    assert made.client.resets == {third: ErrorCodes.REFUSED_STREAM}
    assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]


def test_a_malformed_request_ends_its_stream_alone(clock: Clock, lines: list[str]) -> None:
    made = exchange(clock)
    one = made.opened()
    bad = made.client.request("GET", "/", ("connection", "close"))
    made.go()
    assert made.client.resets == {bad: ErrorCodes.PROTOCOL_ERROR}
    assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
    assert "refused a handshake from 192.0.2.1: malformed request: a header field of HTTP/1.1" in lines


@pytest.mark.parametrize("length", [("a",), ("-1",), ("1", "2"), ("٥",)])  # noqa: RUF001  # a digit, but not an ASCII one
def test_a_content_length_that_is_malformed_ends_its_stream_alone(clock: Clock, length: tuple[str, ...]) -> None:
    made = exchange(clock)
    one = made.opened()
    bad = made.client.connect("/", *(("content-length", value) for value in length))
    made.go()
    assert made.client.resets == {bad: ErrorCodes.PROTOCOL_ERROR}
    assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]


def test_a_content_length_is_no_limit_for_a_websocket(clock: Clock) -> None:
    made = exchange(clock)
    one = made.opened("/info", ("content-length", "0"), ("a", "b"))
    made.client.h2.streams[one]._expected_content_length = None
    assert b'["content-length", "0"]' in made.echo(one, b"")[0].payload
    assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]


class TestFlowControl:
    """Windows."""

    def test_a_stream_that_is_not_read_gets_no_window(self, clock: Clock) -> None:
        made = exchange(clock)
        stalled, other = made.opened("/?stall"), made.opened()
        window = made.client.h2.local_flow_control_window(stalled)
        assert window == DEFAULT.max_window
        rest = made.client.send_some(stalled, client_frame(TEXT, b"x" * 2 * window))
        made.go()
        assert made.client.h2.local_flow_control_window(stalled) == 0
        assert rest
        # Far more than the window of the connection can come on the other stream.
        for _ in range(40):
            assert made.echo(other, client_frame(2, bytes(2**19))) == [Message(2, bytes(2**19))]

    def test_a_stream_that_does_not_read_is_not_read(self, clock: Clock) -> None:
        made = exchange(clock, client=Http2Client(opens_windows=False))
        one = made.opened()
        sent = 0
        while made.client.h2.local_flow_control_window(one) > 1000:
            made.client.send(one, client_frame(2, bytes(900)))
            sent += 900
            made.go()
            assert sent < 4 * DEFAULT.max_window
        (stream,) = made.session.streams.values()
        assert len(made.client.bodies[one]) == FIRST_WINDOW
        assert stream.unsent > 64 * 1024
        assert stream.owner.is_backlogged
        assert stream.held <= 2 * DEFAULT.max_window
        # It goes on as soon as the client reads.
        made.client.opens_windows = True
        made.client.h2.increment_flow_control_window(2**24)
        made.client.h2.increment_flow_control_window(2**24, one)
        made.go(100)
        assert sum(len(frame.payload) for frame in made.client.frames(one)) == sent
        assert not stream.owner.is_backlogged
        assert made.client.h2.local_flow_control_window(one) > DEFAULT.max_window // 2

    def test_what_ends_a_stream_both_ways_opens_no_window(self, clock: Clock) -> None:
        """The last DATA frame of a client may come after our own end. Then the stream is closed, and sends nothing more
        (RFC 9113 section 5.1), not even if it may send ahead more than before."""
        made = exchange(clock, max_buffered=2**23, ping_interval=0)
        others = [made.opened() for _ in range(10)]
        one = made.opened()
        before = made.session.window
        made.client.send(one, server_frame(TEXT, b"not masked"))
        for other in others:
            made.client.send(other, client_frame(CLOSE, close_payload(1000)), is_last=True)
        made.go()
        assert made.client.ended == {one, *others}
        assert made.session.streams.keys() == {one}
        assert made.session.window > 2 * before
        made.client.send(one, b"late", is_last=True)
        made.go()
        assert made.client.goaway is None
        assert not made.session.streams
        assert made.opened()

    def test_a_large_message_takes_few_rounds(self, clock: Clock) -> None:
        """The window is as large as a connection may use, and not the 64 KiB of the protocol's default."""
        made = exchange(clock)
        one = made.opened()
        octets, rounds = client_frame(2, bytes(2**23)), 0
        while octets:
            octets = made.client.send_some(one, octets)
            made.go(100)
            rounds += 1
        made.go(200)
        assert [len(frame.payload) for frame in made.client.frames(one)] == [2**23]
        assert rounds <= 17

    @pytest.mark.parametrize("is_stream_first", [False, True])
    def test_windows_that_open_in_pieces_as_haproxys_do(self, clock: Clock, is_stream_first: bool) -> None:
        """HAProxy takes a DATA frame in two pieces, and opens both windows for each. That is no flood, and whichever
        window opens last lets the stream go on."""
        client = Http2Client(opens_windows=False)
        made = exchange(clock, client=client)
        one, size = made.opened(), 2**22
        octets = client_frame(2, bytes(size))
        while octets:
            octets = client.send_some(one, octets)
            made.go()
        taken = updates = 0
        while taken < size + 10:
            came = len(client.bodies[one])
            assert came > taken, "neither window is left, and nothing more has come"
            for most in itertools.cycle((16320, 64)):
                piece = min(most, came - taken)
                if not piece:
                    break
                for stream in (one, None) if is_stream_first else (None, one):
                    client.h2.increment_flow_control_window(piece, stream)
                    updates += 1
                    made.go()
                taken += piece
        assert updates > DEFAULT.max_window_updates
        assert client.frames(one) == [Message(2, bytes(size))]
        assert client.goaway is None

    def test_a_changed_first_window_of_the_peer_lets_a_stream_go_on(self, clock: Clock) -> None:
        client = Http2Client(opens_windows=False)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        made = exchange(clock, client=client)
        one = made.opened()
        assert made.echo(one, client_frame(TEXT, b"hello")) == []
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
        made.go()
        assert client.frames(one) == [Message(TEXT, b"hello")]

    def test_an_end_needs_no_window(self, clock: Clock) -> None:
        client = Http2Client(opens_windows=False)
        client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        made = exchange(clock, client=client)
        one = made.opened()
        client.h2.end_stream(one)
        made.go()
        assert client.ended == {one}

    @pytest.mark.parametrize("is_answered", [False, True])
    def test_an_end_while_the_window_is_less_than_nothing(self, clock: Clock, is_answered: bool) -> None:
        """A client that makes the first window smaller takes back what it has given (RFC 9113 section 6.9.2)."""
        made = exchange(clock, client=Http2Client(opens_windows=False))
        one = made.opened()
        assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
        made.client.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
        made.go()
        assert made.session._h2.local_flow_control_window(one) == -7
        if is_answered:
            assert made.echo(one, client_frame(TEXT, b"late")) == []
        made.client.h2.end_stream(one)
        made.session.dataReceived(made.client.to_send())
        # h2's client refuses even an empty frame while its window is less than nothing, so this looks at the octets.
        end = DataFrame(one, b"", flags=["END_STREAM"]).serialize()
        assert made.transport.value() == (b"" if is_answered else end), "the end waits for what was written before it"
        if is_answered:
            made.client.h2.increment_flow_control_window(13, one)
            made.go()
            assert made.client.frames(one) == [Message(TEXT, b"late")]
            assert made.client.ended == {one}

    def test_a_peers_table_is_used_no_further_than_by_default(self, clock: Clock) -> None:
        made = exchange(clock)
        made.client.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: 2**30})
        made.go()
        assert made.session._h2.encoder.header_table_size == TABLE_SIZE
        made.opened()

    def test_streams_take_turns(self, clock: Clock) -> None:
        made = exchange(clock)
        one, two = made.opened(), made.opened()
        made.client.send(one, client_frame(2, bytes(200_000)))
        made.client.send(two, client_frame(2, bytes(200_000)))
        before = len(made.client.events)
        made.go(100)
        order = [event.stream_id for event in made.client.events[before:] if isinstance(event, DataReceived)]
        assert order[:6] in ([one, two] * 3, [two, one] * 3)

    def test_a_window_that_overflows_ends_the_stream(self, clock: Clock) -> None:
        made = exchange(clock)
        one, two = made.opened(), made.opened()
        raw(made, WindowUpdateFrame(one, window_increment=2**31 - 1))
        assert made.client.resets == {one: ErrorCodes.FLOW_CONTROL_ERROR}
        assert made.session.streams.keys() == {two}

    def test_a_socket_that_is_full_is_not_read(self, clock: Clock) -> None:
        made = exchange(clock)
        one = made.opened()
        made.session.pauseProducing()
        assert made.transport.producerState == "paused"
        made.client.send(one, client_frame(TEXT, b"hello"))
        assert made.echo(one, client_frame(TEXT, b"hello")) == []
        made.session.resumeProducing()
        assert made.transport.producerState == "producing"
        made.go()
        assert made.client.frames(one) == [Message(TEXT, b"hello")] * 2
        made.session.stopProducing()

    def test_a_socket_that_is_full_again_at_once_is_not_read(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = exchange(clock)
        made.session.pauseProducing()
        monkeypatch.setattr(made.session, "_flush", made.session.pauseProducing)
        made.session.resumeProducing()
        assert made.transport.producerState == "paused"

    def test_a_stream_that_has_nothing_to_send(self, clock: Clock) -> None:
        made = exchange(clock)
        made.opened()
        (stream,) = made.session.streams.values()
        made.session.wants_to_send(stream)
        assert made.transport.take() == b""


def part_of_a_frame(size: int, most: int) -> bytes:
    """Return the first `size` bytes of a frame with a payload of `most` bytes, which begins a header block."""
    return (struct.pack("!BHBBL", 0, most, frames.HEADERS, 0, 1) + bytes(most))[:size]


class TestMemory:
    """What a connection itself keeps counts for `--max-buffered`, beside what its streams keep."""

    def test_a_part_of_a_frame_and_of_a_block_of_fields(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        assert (made.session.count(), made.session.count_missing()) == (0, DEFAULT.max_frame)
        made.session.dataReceived(part_of_a_frame(5, 5000))
        assert (made.session.count(), made.session.count_missing()) == (5, DEFAULT.max_frame)
        made.session.dataReceived(part_of_a_frame(4000, 5000)[5:])
        assert (made.session.count(), made.session.count_missing()) == (4000, 5009 - 4000)
        assert factory.budget.held == 4000
        made.session.dataReceived(bytes(1009))
        assert made.session.count() == 5000, "h2 keeps the block"
        made.lose()
        assert not factory.budget.held

    def test_what_the_socket_does_not_take(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        one = made.opened()
        monkeypatch.setattr(Carrier, "held", 1000)
        made.echo(one, client_frame(TEXT, b"hello"))
        assert factory.budget.held >= 1000
        assert not made.session.is_backlogged
        made.session.pauseProducing()
        assert made.session.is_backlogged

    def test_streams_that_have_ended_are_forgotten(self, clock: Clock) -> None:
        """By itself, h2 lets go of a stream only when another one opens, and notes how 65,536 of them have ended."""
        made = exchange(clock, max_streams=20)
        for _ in range(6):
            for number in [made.opened() for _ in range(20)]:
                made.client.h2.reset_stream(number)
            made.go()
        h2 = made.session._h2
        assert not h2.streams
        assert len(h2._closed_streams) == UNTOLD_STREAMS
        numbers = [made.opened() for _ in range(20)]
        for number in numbers[5:]:
            made.client.h2.reset_stream(number)
        made.go()
        assert 5 <= len(h2.streams) <= 10

    def test_who_holds_more_than_a_share_waits_until_there_is_room(self, clock: Clock) -> None:
        factory = make_factory(clock, max_buffered=128 * 2**10, full_timeout=10, http2_idle=0)
        several = [exchange(clock, factory) for _ in range(2)]
        for made in several:
            made.session.dataReceived(part_of_a_frame(40_000, 60_000))
        assert factory.budget.is_tight
        first, second = several
        assert [made.transport.producerState for made in several] == ["producing", "paused"]
        # The first one has its turn. When it has gone, it is the turn of the second one.
        first.lose()
        clock.pump([TICK] * 5)
        assert second.transport.producerState == "producing"
        second.lose()
        clock.pump([TICK] * 5)
        assert not factory.budget.held
        assert not clock.getDelayedCalls()

    def test_who_waits_too_long_has_to_go(self, clock: Clock, lines: list[str]) -> None:
        factory = make_factory(clock, max_buffered=48 * 2**10, full_timeout=10, http2_idle=0)
        made = exchange(clock, factory)
        made.session.dataReceived(part_of_a_frame(40_000, 60_000))
        assert made.transport.producerState == "paused"
        made.session._written += 1  # the peer takes something before the first deadline, and nothing before the second
        clock.pump([TICK] * 105)
        made.go()
        assert made.client.goaway is None
        clock.pump([TICK] * 105)
        made.go()
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "the server is full")
        assert "closing HTTP/2 from 192.0.2.1: ENHANCE_YOUR_CALM the server is full" in lines
        made.session.wait_for_room()
        made.session.go_on(1000)
        assert made.session.count() == 0
        made.lose()


FLOODS: dict[str, tuple[str, str, Callable[[int], list[Frame | bytes]]]] = {
    "settings": ("max_settings", "too many SETTINGS frames", lambda _: [SettingsFrame(0)]),
    "pings": ("max_pings", "too many PING frames", lambda _: [PingFrame(0, b"12345678")]),
    "priorities": (
        "max_priorities",
        "too many frames without effect",
        lambda n: [PriorityFrame(2 * n + 1)],
    ),
    "unknown frames": (
        "max_priorities",
        "too many frames without effect",
        lambda _: [b"\0\0\0\x42\0\0\0\0\0"],
    ),
    "acknowledgements of no ping": (
        "max_priorities",
        "too many frames without effect",
        lambda _: [PingFrame(0, b"12345678", flags=["ACK"])],
    ),
    "empty frames": ("max_empty", "too many empty DATA frames", lambda _: [DataFrame(1, b"")]),
    "empty padded frames": (
        "max_empty",
        "too many empty DATA frames",
        lambda _: [DataFrame(1, b"", pad_length=9, flags=["PADDED"])],
    ),
}


class TestFloods:
    """What ends the connection with ENHANCE_YOUR_CALM, and a line of the log."""

    @pytest.mark.parametrize("kind", FLOODS)
    def test_frames_that_cost_nothing(self, clock: Clock, lines: list[str], kind: str) -> None:
        name, why, make = FLOODS[kind]
        limits: dict[str, Any] = {name: 20}
        made = exchange(clock, **limits)
        one = made.opened()
        for number in range(19 if name != "max_settings" else 18):
            raw(made, *make(number))
        assert made.client.goaway is None
        assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
        for number in range(2):
            raw(made, *make(1000 + number))
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, why)
        assert f"closing HTTP/2 from 192.0.2.1: ENHANCE_YOUR_CALM {why}" in lines
        assert not made.session.streams

    def test_rapid_reset_cve_2023_44487(self, clock: Clock) -> None:
        made = exchange(clock, max_resets=20)
        for _ in range(21):
            number = made.client.connect()
            made.client.h2.reset_stream(number, ErrorCodes.CANCEL)
        made.go()
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many resets")

    def test_window_updates(self, clock: Clock) -> None:
        made = exchange(clock, max_window_updates=20, window_updates_per_data=3)
        one = made.opened()
        update = WindowUpdateFrame(0, window_increment=1)
        raw(made, *[update] * 20)
        assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
        raw(made, *[WindowUpdateFrame(one, window_increment=1)] * 3)
        assert made.client.goaway is None
        raw(made, update)
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many WINDOW_UPDATE frames")

    def test_a_client_may_open_both_windows_for_each_frame_that_it_gets(self, clock: Clock) -> None:
        made = exchange(clock, client=Http2Client(opens_windows=False), max_window_updates=1)
        one = made.opened()
        for _ in range(100):
            (echo,) = made.echo(one, client_frame(TEXT, b"x" * 1000))
            made.client.h2.increment_flow_control_window(len(echo.payload) + 4)
            made.client.h2.increment_flow_control_window(len(echo.payload) + 4, one)
        made.go()
        assert made.client.goaway is None

    def test_resets_that_a_client_provokes_cve_2025_8671(self, clock: Clock) -> None:
        made = exchange(clock, max_resets=20)
        for _ in range(11):
            made.client.request("GET", "/", ("connection", "x"))
            made.go()
            raw(
                made, WindowUpdateFrame(made.opened(), window_increment=2**31 - 1)
            ) if made.client.goaway is None else None
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many resets")

    @pytest.mark.parametrize(
        ("frame", "why"),
        [
            pytest.param(DataFrame(1, b""), "too many empty DATA frames", id="DATA"),
            pytest.param(
                HeadersFrame(1, b"\x82", flags=["END_HEADERS"]), "too many frames without effect", id="HEADERS"
            ),
        ],
    )
    def test_frames_on_a_stream_that_was_reset(self, clock: Clock, frame: Frame, why: str) -> None:
        """Each of them gets an RST_STREAM."""
        made = exchange(clock, max_empty=20, max_priorities=20)
        assert made.opened("/?abort") in made.client.resets
        raw(made, *[frame] * 19)
        assert made.client.goaway is None
        raw(made, *[frame] * 2)
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, why)

    def test_settings_in_one_frame_cve_2020_11080(self, clock: Clock) -> None:
        made = exchange(clock, max_setting_entries=20)
        raw(made, frames.settings(dict.fromkeys(range(100, 110), 1)))
        assert made.client.goaway is None
        raw(made, frames.settings(dict.fromkeys(range(100, 121), 1)))
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many settings")

    def test_settings_in_several_frames(self, clock: Clock) -> None:
        made = exchange(clock, max_setting_entries=20)
        for number in range(100, 130):
            if made.client.goaway is None:
                raw(made, frames.settings({number: 1}))
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many settings")

    def test_resets_at_an_ordinary_rate(self, clock: Clock) -> None:
        made = exchange(clock, max_resets=30, http2_idle=0)
        for _ in range(60):
            made.client.h2.reset_stream(made.client.connect(), ErrorCodes.CANCEL)
            made.go()
            clock.advance(1)
        assert made.client.goaway is None

    def test_continuations_cve_2024_27316(self, clock: Clock) -> None:
        made = exchange(clock, max_continuations=3)
        raw(made, HeadersFrame(1, b"\x82"), *(ContinuationFrame(1, b"\x86") for _ in range(3)))
        assert made.client.goaway is None
        raw(made, ContinuationFrame(1, b"\x84"))
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "too many CONTINUATION frames")

    @pytest.mark.parametrize("size", [100, 30])
    def test_a_block_of_fields_that_is_too_large(self, clock: Clock, size: int) -> None:
        made = exchange(clock, max_header_list=50)
        raw(made, HeadersFrame(1, bytes(size)))
        if size <= 50:
            assert made.client.goaway is None
            raw(made, ContinuationFrame(1, bytes(size)))
        assert ended_with(made) == (ErrorCodes.ENHANCE_YOUR_CALM, "a header list that is too large")

    def test_an_hpack_bomb_cve_2016_6581(self, clock: Clock) -> None:
        """One byte refers to a field of 4,000 bytes."""
        made = exchange(clock)
        bomb = b"\x40\x01a\x7f\xa1\x1e" + b"x" * 4000 + b"\xbe" * 16000
        raw(made, HeadersFrame(1, bomb[:16000]), ContinuationFrame(1, bomb[16000:], flags=["END_HEADERS"]))
        code, why = ended_with(made)
        assert code == ErrorCodes.ENHANCE_YOUR_CALM
        assert "header" in why

    def test_a_header_list_above_the_announced_size_gets_an_answer(self, clock: Clock) -> None:
        made = exchange(clock)
        status, body = made.refused(made.client.request("GET", "/", ("x", "y" * DEFAULT.max_request_head)))
        assert (status, body) == ("431", "The request head is too large.\n")
        assert made.client.goaway is None

    def test_a_connection_without_a_stream_ends_in_time(self, clock: Clock) -> None:
        made = exchange(clock, http2_idle=10)
        one = made.opened()
        clock.pump([TICK] * 150)
        assert made.client.goaway is None
        made.client.h2.end_stream(one)
        made.go()
        clock.pump([TICK] * 99)
        made.go()
        assert made.client.goaway is None
        clock.pump([TICK] * 3)
        made.go()
        assert ended_with(made) == (ErrorCodes.NO_ERROR, "")
        assert not made.transport.aborted
        clock.pump([TICK] * 60)
        assert made.transport.aborted
        made.lose()

    def test_a_half_closed_stream_ends_in_time(self, clock: Clock) -> None:
        made = exchange(clock, close_timeout=5, ping_interval=0)
        one, two = made.opened(), made.opened()
        made.echo(one, client_frame(CLOSE, close_payload(1000)))
        assert made.client.ended == {one}
        assert made.session.streams.keys() == {one, two}
        assert len(made.session.streams) == 2
        clock.pump([TICK] * 49)
        made.go()
        assert made.client.resets == {}
        clock.pump([TICK] * 3)
        made.go()
        assert made.client.resets == {one: ErrorCodes.NO_ERROR}
        assert made.session.streams.keys() == {two}

    def test_what_comes_on_a_stream_that_nobody_owns_is_dropped(self, clock: Clock) -> None:
        made = exchange(clock)
        one = made.opened()
        made.echo(one, client_frame(CLOSE, close_payload(1000)))
        made.client.send(one, bytes(1000))
        made.go()
        assert made.session.streams[one].held == 0
        made.client.send(one, bytes(1000), is_last=True)
        made.go()
        assert not made.session.streams


_FRAME, _PROTOCOL = ErrorCodes.FRAME_SIZE_ERROR, ErrorCodes.PROTOCOL_ERROR
_BEGIN = SettingsFrame(0)

WRONG: dict[str, tuple[ErrorCodes, list[Frame | bytes]]] = {
    "no settings": (_PROTOCOL, [PingFrame(0, b"12345678")]),
    "an acknowledgement in place of settings": (_PROTOCOL, [SettingsFrame(0, flags=["ACK"])]),
    "data on no stream": (_PROTOCOL, [_BEGIN, DataFrame(1, b"x")]),
    "a frame of 16 MiB": (_FRAME, [_BEGIN, b"\xff\xff\xff\0\0\0\0\0\0"]),
    "a ping of 7 bytes": (_FRAME, [_BEGIN, b"\0\0\7\6\0\0\0\0\0" + bytes(7)]),
    "fields that HPACK does not have": (
        _PROTOCOL,
        [_BEGIN, HeadersFrame(1, b"\xff" * 9, flags=["END_HEADERS"])],
    ),
    "an even stream": (_PROTOCOL, [_BEGIN, HeadersFrame(2, b"\x82", flags=["END_HEADERS"])]),
    "a GOAWAY on a stream": (_PROTOCOL, [_BEGIN, b"\0\0\x08\7\0\0\0\0\1" + bytes(8)]),
    "a GOAWAY that is cut": (_PROTOCOL, [_BEGIN, b"\0\0\7\7\0\0\0\0\0" + bytes(7)]),
    "a block that is interrupted": (
        _PROTOCOL,
        [_BEGIN, HeadersFrame(1, b"\x82"), PingFrame(0, bytes(8))],
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_ends_the_connection(clock: Clock, kind: str) -> None:
    code, sent = WRONG[kind]
    factory = make_factory(clock)
    peer = Peer(factory)
    peer.transport.protocol = peer.protocol  # type: ignore[attr-defined]
    octets = peer.send(
        frames.PREFACE + b"".join(frame if isinstance(frame, bytes) else frame.serialize() for frame in sent)
    )
    assert peer.transport.half_closed
    assert octets.rindex(struct.pack("!BL", frames.GOAWAY, 0)) > 0
    client = Http2Client()
    client.take(octets)
    assert client.goaway is not None
    assert client.goaway.code == code
    session: Any = peer.transport.protocol  # type: ignore[attr-defined]
    session.dataReceived(b"is ignored")
    assert peer.take() == b""
    assert factory.count == 1
    session.readConnectionLost()
    assert peer.transport.disconnecting
    session.connectionLost()
    assert factory.count == 0


def test_a_frame_on_a_stream_that_is_not_open(clock: Clock) -> None:
    made = exchange(clock)
    made.opened()
    raw(made, DataFrame(9, b"x"))
    assert ended_with(made) == (ErrorCodes.PROTOCOL_ERROR, "a frame on stream 9, which is not open")


def test_an_exception_ends_the_connection_and_goes_no_further(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    made = exchange(clock)
    monkeypatch.setattr(made.session, "_open", lambda _: 1 / 0)
    made.client.connect()
    made.go()
    assert ended_with(made) == (ErrorCodes.INTERNAL_ERROR, "internal error")
    made.session._fail(ErrorCodes.INTERNAL_ERROR, "twice")
    assert made.transport.take() == b""


def test_events_of_a_stream_that_is_forgotten(clock: Clock) -> None:
    made = exchange(clock)
    one = made.opened()
    made.session._handle(DataReceived(stream_id=99, data=b"x", flow_controlled_length=1))
    made.session._handle(StreamReset(stream_id=99))
    made.session._handle(StreamEnded(stream_id=99))
    made.session._handle(WindowUpdated(stream_id=99))
    assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]


def test_what_comes_too_late_for_a_stream_is_dropped(clock: Clock) -> None:
    made = exchange(clock)
    made.opened()
    (stream,) = made.session.streams.values()
    stream.reset()
    made.session.send_head(stream, 200, [])
    made.session.open_window(stream, 1000)
    made.session.send_reset(stream, 8)
    made.go()
    assert made.client.resets == {stream.number: ErrorCodes.CANCEL}
    assert made.client.goaway is None


def test_an_exception_at_the_end_of_a_stream_keeps_it_from_no_other(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    factory = make_factory(clock)
    made = exchange(clock, factory)
    made.opened()
    made.opened()
    monkeypatch.setattr(next(iter(factory.live)), "connectionLost", lambda _: 1 / 0)
    made.lose()
    assert len(factory.live) == 1
    assert lines[-1] == "the end of a stream failed"


class TestTheEnd:
    """The end of a connection."""

    def test_the_clients_goaway_lets_streams_go_on(self, clock: Clock) -> None:
        made = exchange(clock)
        one = made.opened()
        raw(made, GoAwayFrame(0))
        assert made.echo(one, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
        assert not made.transport.half_closed
        made.client.h2.end_stream(one)
        made.go()
        assert made.client.ended == {one}
        assert made.transport.half_closed

    def test_a_goaway_without_streams(self, clock: Clock) -> None:
        made = exchange(clock)
        raw(made, GoAwayFrame(0))
        assert made.transport.half_closed

    def test_going_away_in_two_steps(self, clock: Clock) -> None:
        made = exchange(clock)
        one = made.opened()
        on_its_way = made.client.connect()
        made.session.go_away()
        made.session.go_away()
        octets = made.transport.take()
        announced = frames.goaway(2**31 - 1, ErrorCodes.NO_ERROR)
        assert octets == announced + PingFrame(0, LEAVING).serialize()
        made.client.take(octets)
        made.go()
        assert made.client.heads[on_its_way][":status"] == "200", "it was opened before the client knew"
        assert [goaway.last_stream for goaway in made.client.goaways] == [2**31 - 1, on_its_way]
        late = made.client.connect()
        made.go()
        assert made.client.resets == {late: ErrorCodes.REFUSED_STREAM}
        for number in (one, on_its_way):
            assert made.echo(number, client_frame(TEXT, b"hello")) == [Message(TEXT, b"hello")]
            assert not made.transport.half_closed
            made.client.h2.end_stream(number)
            made.go()
        assert made.transport.half_closed
        made.session.go_away()
        made.session.leave()
        assert made.transport.take() == b""

    @pytest.mark.parametrize("is_first", [False, True])
    def test_who_leaves_waits_for_no_stream_that_nobody_owns(self, clock: Clock, is_first: bool) -> None:
        """nghttpx never ends the stream of a client that has gone. The WebSocket on it is over, so there is nothing to
        wait for."""
        made = exchange(clock, ping_interval=0)
        one = made.opened()
        steps: list[Callable[[], object]] = [
            made.session.go_away,
            lambda: made.echo(one, client_frame(CLOSE, close_payload(1000))),
        ]
        for step in reversed(steps) if is_first else steps:
            assert not made.transport.half_closed
            step()
            made.go()
        assert made.client.ended == {one}
        assert made.client.resets == {one: ErrorCodes.NO_ERROR}
        assert ended_with(made) == (ErrorCodes.NO_ERROR, "")

    def test_a_client_that_does_not_answer_the_ping_has_a_time_limit(self, clock: Clock) -> None:
        made = exchange(clock, close_timeout=5)
        made.session.go_away()
        made.client.take(made.transport.take())
        made.client.to_send()  # the answer to the PING is lost
        raw(made, PingFrame(0, b"12345678", flags=["ACK"]))
        clock.pump([TICK] * 49)
        made.go()
        assert len(made.client.goaways) == 1
        clock.pump([TICK] * 3)
        made.go()
        assert [goaway.last_stream for goaway in made.client.goaways] == [2**31 - 1, 0]
        assert made.transport.half_closed

    def test_an_answer_to_no_ping_is_no_reason_to_leave(self, clock: Clock) -> None:
        made = exchange(clock)
        raw(made, PingFrame(0, LEAVING, flags=["ACK"]))
        assert not made.session.is_leaving

    def test_the_fin_of_the_client_ends_each_stream(self, clock: Clock) -> None:
        made = exchange(clock)
        one, two = made.opened(), made.opened()
        made.echo(two, client_frame(CLOSE, close_payload(1000)))
        made.client.send(one, client_frame(TEXT, b"hello"))
        made.session.dataReceived(made.client.to_send())
        made.session.readConnectionLost()
        clock.advance(0)
        made.client.take(made.transport.take())
        assert made.client.frames(one) == [Message(TEXT, b"hello")]
        assert made.client.ended == {one, two}
        assert made.transport.disconnecting
        made.session.writeConnectionLost()

    def test_a_fin_without_streams(self, clock: Clock) -> None:
        made = exchange(clock)
        made.session.readConnectionLost()
        assert made.transport.disconnecting

    def test_a_lost_connection_loses_its_streams(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        made.opened()
        made.opened("/?delay=1s")
        assert factory.count == 2
        made.session.call_soon(next(iter(made.session.streams.values())))
        made.session.pauseProducing()
        made.lose()
        assert factory.count == 0
        assert not factory.live
        made.session.resumeProducing()
        clock.advance(TICK)
        assert not clock.getDelayedCalls()

    def test_what_is_asked_after_the_end(self, clock: Clock) -> None:
        factory = make_factory(clock)
        made = exchange(clock, factory)
        made.opened()
        (stream,) = made.session.streams.values()
        made.lose()
        made.session.call_soon(stream)
        made.session.forget(stream)
        factory.sessions.note_streams(made.session)
        factory.sessions.settle(made.session)
        clock.advance(TICK)
        assert not clock.getDelayedCalls()
        assert not factory.count

    def test_a_turn_that_was_put_off_until_after_the_end(self, clock: Clock) -> None:
        made = exchange(clock)
        made.session._is_behind = True
        raw(made, DataFrame(1, b"x"))
        made.session._fail(ErrorCodes.PROTOCOL_ERROR, "it ends meanwhile")
        made.session.take_turn()
        assert not made.session._is_behind
        assert made.transport.half_closed


class SlowClock(Clock):
    """A clock that moves on each time that somebody looks."""

    step = 0.0

    def seconds(self) -> float:
        """Return the time, which is later each time."""
        self.rightNow += self.step
        return float(self.rightNow)


def count_turns(made: Exchange, monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Return a list that gets an entry for each turn that the connection takes."""
    turns: list[None] = []
    take_turn = made.session.take_turn

    def count() -> None:
        turns.append(None)
        take_turn()

    monkeypatch.setattr(made.session._house._turns, "_work", lambda _: count())  # type: ignore[attr-defined]
    return turns


def test_frames_come_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read with many frames takes several turns, and nothing is lost or read meanwhile."""
    clock = SlowClock()
    made = exchange(clock)
    one = made.opened()
    for number in range(200):
        made.client.send(one, client_frame(TEXT, str(number).encode()))
    turns = count_turns(made, monkeypatch)
    clock.step = 0.0004
    made.session.dataReceived(made.client.to_send())
    assert made.transport.producerState == "paused"
    assert made.session.count() > 1000
    made.session.dataReceived(PingFrame(0, b"12345678").serialize())
    # Turns pass while the socket is full, and nothing is forgotten.
    made.session.pauseProducing()
    clock.advance(0)
    assert made.transport.producerState == "paused"
    made.session.resumeProducing()
    clock.advance(0)
    assert made.transport.producerState == "producing"
    assert len(turns) > 10
    clock.step = 0
    made.go()
    assert [frame.payload for frame in made.client.frames(one)] == [str(number).encode() for number in range(200)]


def test_answers_go_out_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock()
    made = exchange(clock, max_window=2**23)
    made.client.h2.increment_flow_control_window(2**23)
    one = made.opened()
    made.client.h2.increment_flow_control_window(2**23, one)
    made.client.send(one, client_frame(2, bytes(2**21)))
    octets = made.client.to_send()
    turns = count_turns(made, monkeypatch)
    clock.step = 0.0004
    made.session.dataReceived(octets)
    clock.advance(0)
    clock.step = 0
    made.go()
    assert [len(frame.payload) for frame in made.client.frames(one)] == [2**21]
    assert len(turns) > 5


def test_streams_act_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SlowClock()
    made = exchange(clock)
    for _ in range(5):
        made.opened()
    turns = count_turns(made, monkeypatch)
    acted: list[int] = []
    monkeypatch.setattr(Stream, "act", lambda self: acted.append(self.number))
    for stream in made.session.streams.values():
        made.session.call_soon(stream)
    clock.step = 0.0006
    for _ in range(10):
        clock.advance(0)
    assert acted == [1, 3, 5, 7, 9]
    assert len(turns) > 1


def test_what_info_tells(clock: Clock) -> None:
    made = exchange(clock)
    (frame,) = made.echo(made.opened("/info"), b"")
    told = re.search(rb'"http": (\{[^}]*\}\})', frame.payload)
    assert told is not None
    assert b'"version": "2", "stream": 1, "settings": {' in told[1]
    assert b'"initial_window_size": 65535' in told[1]
    raw(made, SettingsFrame(0, settings={0x42: 7}))
    (frame,) = made.echo(made.opened("/info"), b"")
    assert b'"66": 7' in frame.payload


def connect(query: str) -> bytes:
    """Return the header block of an opening handshake."""
    pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", f"/?{query}")]
    return Encoder().encode([*pseudo, (":authority", "x"), ("sec-websocket-version", "13")], huffman=False)


CONNECTS = [
    connect(query)
    for query in ("after=1&close=1000", "after=1&goaway", "abort", "delay=1s&goaway", "handshake-delay=1s&stall")
]
PAYLOADS = st.binary(max_size=20) | st.sampled_from(
    [
        *CONNECTS,
        CONNECTS[0][:9],
        client_frame(TEXT, b"hello"),
        client_frame(CLOSE, close_payload(1000)),
        client_frame(TEXT, b"x" * 1000),
        bytes(8),
        struct.pack("!L", 5),
        struct.pack("!HL", SettingCodes.INITIAL_WINDOW_SIZE, 0),
        b"",
    ]
)
NUMBERS = st.sampled_from([0, 0, 1, 1, 1, 3, 3, 5, 2])
KINDS = st.sampled_from([*range(11), *[frames.HEADERS, frames.DATA] * 4])
FLAGS = st.sampled_from([0, 1, 4, 5, 8, 0x20, 0x2D])


@given(st.lists(st.tuples(KINDS, FLAGS, NUMBERS, PAYLOADS), max_size=30), st.lists(st.integers(1, 100)), st.booleans())
def test_whatever_frames_come(sent: list[tuple[int, int, int, bytes]], cuts: list[int], is_lost: bool) -> None:
    """No exception escapes, and nothing is left behind, whether the peer leaves or every deadline passes."""
    clock = Clock()
    failures: list[dict[str, Any]] = []

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event)

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    try:
        factory = make_factory(clock, http2_idle=5, ping_interval=1, ping_timeout=1, flood_time=1, max_pings=5)
        made = exchange(clock, factory)
        octets = b"".join(
            struct.pack("!BHBBL", 0, len(payload), kind, flags, number) + payload
            for kind, flags, number, payload in sent
        )
        while octets and not made.transport.disconnecting:
            size = cuts.pop() if cuts else len(octets)
            made.session.dataReceived(octets[:size])
            clock.advance(0)
            octets = octets[size:]
        if not is_lost:
            clock.pump([TICK] * 250)
            assert made.transport.aborted or made.transport.disconnecting
        made.session.connectionLost()
        clock.pump([TICK] * 2)
        assert not factory.count
        assert not factory.budget.held
        assert not clock.getDelayedCalls()
        assert not failures
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]

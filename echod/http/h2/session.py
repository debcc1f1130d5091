"""One HTTP/2 connection: its frames, its streams, and its windows.

h2 knows the protocol. Three things of it are done here. GOAWAY is written and read here, because h2 takes nothing and
sends nothing after either, while RFC 9113 section 6.8 lets the open streams go on. Malformed requests, and streams
above the maximum, end one stream and not the connection (`request`). And frames come to h2 one by one, so that a turn
of the reactor ends in time, and what is a flood ends the connection before it is work.

Knows frames and streams. Must never know what a stream carries, nor the limits of other connections: it asks a `House`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    Event,
    PingAckReceived,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import NoSuchStreamError, ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as PeerSettings
from twisted.internet.error import ConnectionAborted, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echod.core.printable import escape
from echod.core.turns import SHARE
from echod.http.h2 import frames, request
from echod.http.h2.flood import EMPTY, RESETS, FloodError, FloodWatch
from echod.http.h2.frames import Frame, FrameError, FrameReader
from echod.http.h2.header_block import BlockDecoder
from echod.http.h2.stream import Fields, Stream
from echod.http.request import Head
from echod.http.upgrade import HandshakeGuard, Verdict
from echod.settings import Http2Mode, Settings
from echod.upstream.carriers import Carrier

TABLE_SIZE = 4096
"""Bytes of the table with which header fields are compressed for the peer (RFC 9113 section 6.5.2: the default). A peer
may allow gigabytes, which nobody needs."""

MAX_WHY = 120
"""Characters of the reason that h2 gives for the end of a connection."""

CHUNK = 16 * 1024
"""The most bytes of one DATA frame: the smallest maximum that a peer may have (RFC 9113 section 6.5.2), so that streams
take turns often."""

LEAVING = b"leaving "
"""The payload of the PING that follows the first GOAWAY."""

WRITTEN = 64 * 1024
"""Bytes that are written to the socket at a time."""

FIRST_WINDOW = 65535
"""The window of a connection, and of a stream, before anything is agreed (RFC 9113 section 6.9.2)."""

UNTOLD_STREAMS = 100
"""Streams that a client opens before it knows the maximum: RFC 9113 section 6.5.2 recommends no smaller maximum."""

_KNOWN_SETTINGS = frozenset(SettingCodes)

_log = Logger("echod.connection")


class CloseError(Exception):
    """The connection has to end, with an error code and the reason. Both are for the peer and for the log."""

    def __init__(self, code: ErrorCodes, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


class House(Protocol):
    """What a connection needs of those who have it."""

    settings: Settings
    clock: Any
    guard: HandshakeGuard

    @property
    def window(self) -> int:
        """How many bytes a stream may send ahead now."""
        ...

    @property
    def first_window(self) -> int:
        """How many bytes a stream may send before it is answered."""
        ...

    def begin(self, stream: Stream, head: Head, verdict: Verdict) -> None:
        """Give the stream an owner, which answers its request."""
        ...

    def refuse(self, session: Session, why: str) -> None:
        """Count and tell a request that gets no answer, but the end of its stream."""
        ...

    def note_streams(self, session: Session) -> None:
        """Note how many streams of a connection have an owner now."""
        ...

    def leaves(self, session: Session) -> None:
        """Note that a connection waits until the peer knows that it gets no new stream."""
        ...

    def closes(self, session: Session) -> None:
        """Note that a connection waits for the peer's end."""
        ...

    def line_up(self, session: Session) -> None:
        """Let a connection take a turn: it has more to do than fits into its share of this one."""
        ...

    def waits(self, session: Session, stream: Stream) -> None:
        """Note that a stream waits for the peer's end."""
        ...

    def failed(self, session: Session, code: str, why: str) -> None:
        """Tell that the connection ends because of the peer."""
        ...

    def settle(self, session: Session) -> None:
        """Note what a connection itself keeps in memory now."""
        ...

    def waits_for_room(self, session: Session) -> None:
        """Note that a connection is not read because memory is short."""
        ...

    def goes_on(self, session: Session) -> None:
        """Note that it is read again."""
        ...

    def grew(self, session: Session) -> None:
        """Note that the buffers of TLS may have grown."""
        ...

    def shrank(self, session: Session) -> None:
        """Note that they are as small as possible."""
        ...

    def shrinks_later(self, session: Session) -> None:
        """Note that they are in use."""
        ...

    def lost(self, session: Session) -> None:
        """Forget a connection."""
        ...


class _Connection(H2Connection):
    def __init__(self, max_streams: int) -> None:
        # h2 notes how so many streams have ended, so that what is on its way on a stream that was reset does no harm.
        # At a time that can be no more streams than may be open, or than a client opens before it knows how many may
        # be. By itself h2 notes 65,536, which take 6 MiB.
        self.MAX_CLOSED_STREAMS = max(max_streams, UNTOLD_STREAMS)
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,
                # An answer's fields go out as they are: a URL may ask for some that HTTP/2 does not allow.
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.decoder: BlockDecoder = BlockDecoder()

    def drop_ended(self, number: int) -> None:
        """Let go of the streams that have ended, if they are more than the `number` of the others. h2 does that when it
        counts the open ones, and it counts them by itself only when another one opens."""
        if len(self.streams) > 2 * number:
            _ = self.open_inbound_streams


@implementer(IHalfCloseableProtocol, IPushProducer)
class Session(TwistedProtocol):
    """One HTTP/2 connection.

    It is a `budget.Holder`, beside its streams: it keeps parts of frames and of header blocks, and octets that the
    socket has not taken.
    """

    noisy = False
    held = 0

    def __init__(self, house: House, carrier: Carrier) -> None:
        """`carrier` carries the connection: a socket, or TLS on one."""
        self.carrier = carrier
        self.place: str | None = None
        """The key under which the connection is counted while no stream is, if addresses have a limit."""
        self.is_leaving = False
        """Whether the last GOAWAY was sent: no new stream is served."""
        self.streams: dict[int, Stream] = {}
        self.owned = 0
        """How many streams have an owner. The others wait for the peer's end."""
        self._house = house
        self._settings = settings = house.settings
        self._clock = house.clock
        self._reader = FrameReader(settings.max_frame)
        self._floods = FloodWatch(settings, house.clock)
        self._h2 = _Connection(settings.max_streams)
        self._sendable: OrderedDict[int, Stream] = OrderedDict()
        self._due: dict[Stream, None] = {}
        self._out: list[bytes] = []
        self._out_size = self._written = 0
        self._consumed = 0
        self._has_begun = False
        self._is_running = self._is_behind = self._is_full = self._is_over = self._is_lost = False
        self._has_peer_ended = self._is_peer_leaving = self._is_waiting = self._has_announced = False
        self._taken_before = 0

    def begin(self, octets: bytes) -> None:
        """Send our preface, and take these octets, which begin with the peer's."""
        self.carrier.register(self)
        self._h2.local_settings = PeerSettings(client=False)
        self._h2.initiate_connection()
        self._h2.clear_outbound_data_buffer()
        self._h2.receive_data(frames.PREFACE)  # the reader checks the peer's
        settings = self._settings
        self._h2.decoder.max_header_list_size = settings.max_header_list
        # h2 counts with these from the moment when the peer has acknowledged them. The other values are ours to obey.
        agreed: dict[SettingCodes | int, int] = {
            SettingCodes.INITIAL_WINDOW_SIZE: self._house.first_window,
            SettingCodes.MAX_FRAME_SIZE: settings.max_frame,
        }
        self._h2.local_settings.update(agreed)
        told: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: settings.max_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: min(settings.max_request_head, settings.max_header_list),
            **agreed,
        }
        if settings.http2 is Http2Mode.ON:
            told[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        self._send(frames.settings(told))
        self._h2.increment_flow_control_window(settings.max_connection_window - FIRST_WINDOW)
        self._house.note_streams(self)
        self.dataReceived(octets)

    # The socket's events.

    def dataReceived(self, data: bytes) -> None:
        """Take octets."""
        if self._is_over:
            return
        self._reader.feed(data)
        if not self._is_behind and not self._is_full:
            self._run(self._read)

    def readConnectionLost(self) -> None:
        """The peer has sent its FIN. Each stream ends as if the peer had ended it."""
        if self._is_over:
            self.carrier.close()
            return
        self._has_peer_ended = True
        self._run(self._end_streams)

    def _end_streams(self) -> None:
        for stream in list(self.streams.values()):
            stream.deliver_end()
        self._end_if_done()

    def writeConnectionLost(self) -> None:
        """Do nothing: the connection itself was half-closed by us."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything."""
        self._is_lost = self._is_over = True
        self._lose_streams(Failure(ConnectionLost()) if reason is connectionDone else reason)
        self._out.clear()
        self._house.lost(self)

    def pauseProducing(self) -> None:
        """The socket takes no more. Nothing is sent, and nothing is read, since there may be an answer to it."""
        self._is_full = True
        self.carrier.pause()

    def resumeProducing(self) -> None:
        """The socket takes more."""
        self._is_full = False
        if not self._is_lost:
            self._flush()
            if self._is_behind:
                self._house.line_up(self)
            elif not self._is_full:
                self._go_on()

    def stopProducing(self) -> None:
        """Do nothing. The connection is lost, and `connectionLost` follows."""

    # Frames arrive.

    def _run(self, action: Callable[[], None]) -> None:
        """Run the action of an event. No exception escapes, and everything that is sent goes out afterwards."""
        self._guard(action)
        self._flush()
        if self.carrier.has_session and not self._is_lost:
            self._house.grew(self)

    def _guard(self, action: Callable[[], None]) -> None:
        """Run an action. An exception ends the connection, and goes no further."""
        self._is_running = True
        try:
            action()
        except CloseError as error:
            self._fail(error.code, error.why)
        except FloodError as error:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, str(error))
        except Exception:
            _log.failure("an HTTP/2 connection failed")
            self._fail(ErrorCodes.INTERNAL_ERROR, "internal error")
        finally:
            self._is_running = False

    def _read(self) -> None:
        end = self._clock.seconds() + SHARE
        try:
            while (frame := self._reader.next()) is not None:
                self._take(frame)
                if self._is_over:
                    return
                if self._clock.seconds() >= end:
                    self._is_behind = True
                    self.carrier.pause()
                    self._house.line_up(self)
                    return
        except FrameError as error:
            code = ErrorCodes.FRAME_SIZE_ERROR if error.is_too_long else ErrorCodes.PROTOCOL_ERROR
            raise CloseError(code, str(error)) from error

    def _go_on(self) -> None:
        """Go on with what was read and put off, and then with the socket."""
        self._is_behind = False
        if not self._is_over:
            self._run(self._read)
        self._resume()

    def _resume(self) -> None:
        """Read the socket, unless there is a reason not to."""
        if not (self._is_behind or self._is_full or self._is_waiting or self._is_lost):
            self.carrier.resume()

    def _take(self, frame: Frame) -> None:
        is_open = frame.stream in self.streams
        self._floods.check(frame, is_open, not is_open and frame.stream <= self._h2.highest_inbound_stream_id)
        if not self._has_begun and (frame.kind != frames.SETTINGS or frame.flags & frames.ACK):
            raise CloseError(ErrorCodes.PROTOCOL_ERROR, "a preface without SETTINGS")
        self._has_begun = True
        if frame.kind == frames.GOAWAY:
            self._take_goaway(frame)
            return
        self._send(self._h2.data_to_send())
        try:
            events = self._h2.receive_data(frame.octets)
        except ProtocolError as error:
            self._h2.clear_outbound_data_buffer()  # h2's own GOAWAY
            is_no_stream = isinstance(error, NoSuchStreamError)  # h2 says only which
            why = f"a frame on stream {frame.stream}, which is not open" if is_no_stream else escape(str(error))
            raise CloseError(ErrorCodes(error.error_code), why[:MAX_WHY]) from error
        for event in events:
            self._handle(event)
            if self._is_over:
                return

    def _take_goaway(self, frame: Frame) -> None:
        if frame.stream or frame.payload_size < 8:
            raise CloseError(ErrorCodes.PROTOCOL_ERROR, "a GOAWAY that HTTP/2 does not allow")
        self._is_peer_leaving = True
        self._end_if_done()

    def _handle(self, event: Event) -> None:
        match event:
            case DataReceived():
                self._take_data(event)
            case WindowUpdated(stream_id=number) if number:
                self._line_up([self.streams[number]] if number in self.streams else [])
            case WindowUpdated() | RemoteSettingsChanged():
                self._floods.check_settings(len(self._h2.remote_settings))
                self._h2.encoder.header_table_size = min(self._h2.encoder.header_table_size, TABLE_SIZE)
                self._line_up(self.streams.values())
            case RequestReceived():
                self._open(event)
            case PingAckReceived(ping_data=data):
                if data == LEAVING and self._has_announced:
                    self.leave()
            case StreamEnded():
                if event.stream_id in self.streams:
                    self.streams[event.stream_id].deliver_end()
            case StreamReset():
                if not event.remote_reset:
                    self._floods.use(RESETS)
                if event.stream_id in self.streams:
                    stream = self.streams[event.stream_id]
                    self.forget(stream)
                    stream.lose(Failure(ConnectionLost()))

    def _line_up(self, streams: Iterable[Stream]) -> None:
        """Let those of the streams send that have something to send: their windows have opened."""
        for stream in streams:
            if stream.wants_to_send:
                self._sendable[stream.number] = stream

    def _take_data(self, event: DataReceived) -> None:
        size = event.flow_controlled_length or 0
        # What a stream does not take must take no room from the others, so this window opens at once.
        self._consumed += size
        if self._consumed >= self._settings.max_connection_window // 2:
            self._h2.increment_flow_control_window(self._consumed)
            self._consumed = 0
        is_last = event.stream_ended is not None
        if not event.data and not is_last:
            self._floods.use(EMPTY)
        if event.stream_id in self.streams:
            self.streams[event.stream_id].deliver(bytes(event.data), size, is_last)

    def _open(self, event: RequestReceived) -> None:
        number = event.stream_id
        if self.is_leaving or len(self.streams) >= self._settings.max_streams:
            self._refuse(number, ErrorCodes.REFUSED_STREAM)
            return
        lines = [(bytes(name), bytes(value)) for name, value in (*event.headers, *self._h2.decoder.lengths)]
        try:
            head, protocol = request.parse(lines)
            if protocol is not None and self._settings.http2 is not Http2Mode.ON:
                raise request.MalformedError("a `:protocol` that was not offered")
        except request.MalformedError as error:
            self._house.refuse(self, f"malformed request: {error}")
            self._refuse(number, ErrorCodes.PROTOCOL_ERROR)
            return
        has_body = event.stream_ended is None
        verdict = self._house.guard.judge_stream(head, protocol, request.size_of(lines), has_body)
        stream = Stream(self, self.carrier.layers, number, self._house.first_window)
        self.streams[number] = stream
        self.owned += 1
        self._house.note_streams(self)
        self._house.begin(stream, head, verdict)

    def _refuse(self, number: int, code: ErrorCodes) -> None:
        """Reset a stream that has no owner. The client may have provoked it, so it counts as one of the client's
        resets (CVE-2025-8671)."""
        self._floods.use(RESETS)
        self._h2.reset_stream(number, code)

    # What a stream asks for: `stream.Multiplexer`.

    def send_head(self, stream: Stream, status: int, fields: Fields) -> None:
        """Send the head of an answer, unless the stream has ended."""
        if stream.number in self.streams:
            self._h2.send_headers(stream.number, [(b":status", str(status).encode()), *fields])
            self._flush()

    def wants_to_send(self, stream: Stream) -> None:
        """Let the stream send when it is its turn."""
        self._sendable[stream.number] = stream
        self._flush()

    def open_window(self, stream: Stream, octets: int) -> None:
        """Let the peer send so many more bytes on the stream, unless it has ended."""
        if stream.number in self.streams:
            self._h2.increment_flow_control_window(octets, stream.number)
            self._flush()

    def send_reset(self, stream: Stream, code: int) -> None:
        """Send RST_STREAM, unless the stream has ended."""
        if not self._is_over and stream.number in self.streams:
            self._h2.reset_stream(stream.number, code)
            self._flush()

    def call_soon(self, stream: Stream) -> None:
        """Call the stream's `act` in the reactor's next turn."""
        if not self._is_lost:
            self._due[stream] = None
            self._house.line_up(self)

    def forget(self, stream: Stream) -> None:
        """Forget a stream that has ended both ways."""
        if self.streams.pop(stream.number, None) is not None:
            self._sendable.pop(stream.number, None)
            self._h2.drop_ended(len(self.streams))
            self._end_if_done()

    def disowned(self) -> None:
        """Note that a stream has no owner any more."""
        self.owned -= 1
        self._house.note_streams(self)
        self._end_if_done()

    def wait_for_end(self, stream: Stream) -> None:
        """Wait for the peer's end of a stream that nobody owns any more."""
        self._house.waits(self, stream)

    def give_up_stream(self, stream: Stream) -> None:
        """Reset a stream whose peer does not end it (RFC 9113 section 8.1: NO_ERROR, since the answer is complete)."""
        self.send_reset(stream, ErrorCodes.NO_ERROR)
        self.forget(stream)

    @property
    def window(self) -> int:
        """How many bytes a stream may send ahead now."""
        return self._house.window

    @property
    def position(self) -> int:
        """How many bytes have been written to the socket since the beginning, and are about to be."""
        return self._written + self._out_size

    @property
    def taken(self) -> int:
        """How many of these bytes the peer's side has taken."""
        return self._written - self.carrier.unsent - self.carrier.unacknowledged

    def describe(self) -> dict[str, Any]:
        """Return what `/info` tells of the connection: the settings that the client has sent."""
        return {"settings": {_name_of(code): value for code, value in self._h2.remote_settings.items()}}

    # What the budget asks.

    def count(self) -> int:
        """Return how many bytes of memory the connection itself keeps."""
        return self._reader.held + self._floods.block_size + self._out_size + self.carrier.held

    @property
    def is_backlogged(self) -> bool:
        """Whether the socket takes no more, so that the connection is not read anyway."""
        return self._is_full

    @property
    def in_open_state(self) -> bool:
        """Whether frames are still taken."""
        return not self._is_over

    def count_missing(self) -> int:
        """Return how many bytes of the current frame are still to come; between two frames, how many one may have."""
        return self._reader.missing or self._settings.max_frame

    def wait_for_room(self) -> None:
        """Stop reading, because all connections together hold too much, and this one holds more than its share."""
        self.carrier.give_back_sent()
        if not self._is_waiting and not self._is_over:
            self._is_waiting = True
            self._taken_before = self.taken
            self.carrier.pause()
            self._house.waits_for_room(self)

    def go_on(self, read_size: int) -> None:
        """Read, at most `read_size` bytes at a time."""
        if not self._is_over:
            self.carrier.set_read_size(read_size)
            if self._is_waiting:
                self._is_waiting = False
                self._house.goes_on(self)
                self._resume()

    def waited_too_long(self) -> None:
        """End the connection, unless the peer has taken something in the meantime."""
        taken = self.taken
        if taken > self._taken_before:
            self._taken_before = taken
            self._house.waits_for_room(self)
        else:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "the server is full")

    # Turns.

    def take_turn(self) -> None:
        """Take a turn: do what was put off."""
        if self._is_lost:
            return
        self._run(self._act)
        if self._is_behind and not self._is_full:
            self._go_on()

    def _act(self) -> None:
        """Let the streams act that wait for it, as far as there is time."""
        end = self._clock.seconds() + SHARE
        while self._due:
            stream = next(iter(self._due))
            del self._due[stream]
            stream.act()
            if self._due and self._clock.seconds() >= end:
                self._house.line_up(self)
                return

    # Frames go out.

    def _send(self, octets: bytes) -> None:
        if octets:
            self._out.append(octets)
            self._out_size += len(octets)

    def _flush(self) -> None:
        """Send what h2 has to send, and what the streams have, one frame of each in turn."""
        if not self._is_running and not self._is_lost:
            self._guard(self._send_all)
            self._house.settle(self)

    def _send_all(self) -> None:
        end = self._clock.seconds() + SHARE
        self._write_if_much(0)
        while self._sendable and not (self._is_full or self._is_over):
            self._send_some(self._sendable.popitem(last=False)[1])
            self._write_if_much(WRITTEN)
            if self._sendable and self._clock.seconds() >= end:
                self._house.line_up(self)
                break
        self._write_if_much(0)

    def _send_some(self, stream: Stream) -> None:
        if not stream.wants_to_send:
            return
        most = min(self._h2.local_flow_control_window(stream.number), self._h2.max_outbound_frame_size, CHUNK)
        if most <= 0 and stream.needs_window:
            return  # it is put in line again when its window opens
        octets, is_last = stream.take_to_send(max(0, most))
        if octets:
            self._h2.send_data(stream.number, octets, end_stream=is_last)
            self._floods.gave_data()
        else:
            self._h2.end_stream(stream.number)  # this needs no window
        self._send(self._h2.data_to_send())
        stream.sent(is_last)
        if stream.wants_to_send:
            self._sendable[stream.number] = stream

    def _write_if_much(self, least: int) -> None:
        self._send(self._h2.data_to_send())
        if self._out and self._out_size >= least:
            octets, self._out = b"".join(self._out), []
            self._written += len(octets)
            self._out_size = 0
            self.carrier.write(octets)

    # The end.

    def go_away(self) -> None:
        """Tell the peer to open no new stream, and end when the open ones have ended.

        A stream that the peer opens before it knows must not fail for that (RFC 9113 section 6.8). So the first GOAWAY
        names the highest stream that there can be, and a PING follows it. When the peer answers, no further stream can
        be on its way, and the second GOAWAY names the last one.
        """
        if not self._has_announced and not self._is_over:
            self._has_announced = True
            self._send(self._h2.data_to_send())
            self._send(frames.goaway(frames.MAX_STREAM, ErrorCodes.NO_ERROR))
            self._h2.ping(LEAVING)
            self._house.leaves(self)
            self._flush()

    def leave(self) -> None:
        """Serve no new stream from now on: the peer knows, or it had time enough to know."""
        if not self.is_leaving and not self._is_over:
            self.is_leaving = True
            self._send(self._h2.data_to_send())
            self._send(frames.goaway(self._h2.highest_inbound_stream_id, ErrorCodes.NO_ERROR))
            self._end_if_done()
            self._flush()

    def _fail(self, code: ErrorCodes, why: str) -> None:
        """End the connection because of what the peer did."""
        if self._is_over:
            return
        self._is_over = True  # h2 may have ended, too, and takes nothing more from a stream that is lost
        self._house.failed(self, code.name, why)
        self._send(self._h2.data_to_send())
        self._send(frames.goaway(self._h2.highest_inbound_stream_id, code, why))
        self._lose_streams(Failure(ConnectionAborted()))
        self._close()

    def _lose_streams(self, reason: Failure) -> None:
        streams, self.streams = self.streams, {}
        due, self._due = self._due, {}
        self._sendable.clear()
        for stream in {**dict.fromkeys(streams.values()), **due}:
            try:
                stream.lose(reason)
            except Exception:  # the others must be told all the same
                _log.failure("the end of a stream failed")

    def _end_if_done(self) -> None:
        """End the connection if it has no stream and gets no new one. Who leaves does not wait for the peer's end of
        streams that nobody owns: nghttpx never sends it."""
        if self._is_over:
            return
        if self.is_leaving and not self.owned:
            for stream in list(self.streams.values()):
                self.send_reset(stream, ErrorCodes.NO_ERROR)
            self.streams.clear()
        if self.streams:
            return
        if self._has_peer_ended or self.is_leaving or self._is_peer_leaving:
            self._close()
        else:
            self._house.note_streams(self)

    def _close(self) -> None:
        """Send what is left, and then a FIN."""
        self._is_over = True
        self._reader = FrameReader(0)  # nothing more is taken
        self._write_if_much(0)
        self._house.closes(self)
        self.carrier.unregister()  # TLS waits for that before its end
        if self._has_peer_ended:
            self.carrier.close()
        else:
            self.carrier.half_close()
            self.carrier.resume()

    def give_up(self) -> None:
        """Reset the connection: its time to close is over, or the daemon ends."""
        self.carrier.reset()

    def shrink(self) -> None:
        """Free the memory that the buffers of TLS have grown to, or try again later if they are in use."""
        if self.carrier.renew_buffers():
            self._house.shrank(self)
        else:
            self._house.shrinks_later(self)


def _name_of(code: int) -> str:
    """Return the name of a setting, in lower case; of one that h2 does not know, its number."""
    return SettingCodes(code).name.lower() if code in _KNOWN_SETTINGS else str(code)

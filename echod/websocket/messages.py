"""The way of a message, from the octets of its frames to its echo.

    receive_frames → the codec, or else Autobahn → onMessageFrame… → onMessageEnd → onMessage → sendMessage → answer

The codec echoes ordinary frames by itself. Autobahn takes all others apart, and `EchoProtocol.onMessage` echoes what
they say.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from echod.core import log
from echod.core.printable import describe_message
from echod.core.turns import STEP
from echod.faults import stages
from echod.lane.codec import Codec
from echod.lane.large import Large, Octets
from echod.websocket import json_echo
from echod.websocket.base import connection_log
from echod.websocket.pauses import Pause
from echod.websocket.phase import LINGERING
from echod.websocket.work import Working

SLICE = 1024
"""Octets that Autobahn is given at a time, but for a frame or the rest of one: it copies what it has left for each
frame that it takes from it, so that a 64 KiB read of empty messages would cost half a gigabyte of copying. A frame that
is cut costs more than a whole one."""

PIECE = 64 * 1024
"""Octets of a frame that Autobahn is given at a time, at most; it takes about as long for them as for `SLICE` octets of
small frames."""

PER_MESSAGE_COMPRESSED = 4
"""RSV1 in the first frame of a message that is deflated (RFC 7692 section 6)."""

ORDINARY = b"\x81\x82"
"""The first octet of each frame that the codec could take: whole and not deflated, text or binary (RFC 6455 section
5.2)."""


class Messages(Working):
    """The messages of a connection."""

    _codec: Codec | None = None
    """Echoes ordinary frames; None without native code, and where messages are logged, transformed or spoilt."""

    _transform: Callable[[bytes, int], Generator[bytes, None, bytes]] | None = None
    """What the path makes of a text before it is echoed."""

    _large: Large | None = None
    """A large frame of which the codec has a part."""

    _gathered: bytes | bytearray = b""
    """What has come of the current message."""

    _fragments = 0
    _wire_size = 0
    """Frames of the current message, and the octets that their headers say."""

    _put_off: Octets = b""
    """What was read and is not looked at yet, as it would take too long."""

    _read_ahead: bytes | bytearray = b""
    """What was read behind that."""

    # Octets come in.

    def receive_frames(self, data: Octets) -> None:
        """Take octets of frames."""
        if self._large is not None:
            data = self._receive_large(self._large, data)
        if self._codec is not None and data and data[0] in ORDINARY and self.is_idle and self.in_open_state:
            answers, data = self._codec.echo(data, self.echoed)
            if answers:
                self.sendData(answers)
            self.keep_large(None if self.factory.budget.is_tight else self._codec.begin(data))
            if self._large is not None:
                return
        self._feed_autobahn(data)

    def _receive_large(self, large: Large, data: Octets) -> Octets:
        """Go on with a large frame past Autobahn; return what follows it, or for Autobahn to judge an invalid one."""
        rest: Octets = b"" if large.is_invalid else large.feed(data)
        self.keep_large(None if large.is_invalid or large.is_complete else large)
        if large.is_invalid:
            self._codec = None  # Autobahn finds the fault, and nothing that follows is looked at
            return large.taken()
        if large.is_complete and self.in_open_state:  # else our Close frame is out already: see `answer`
            self.echoed(1, large.size)
            self.sendData(large.answer())
        return rest

    def _feed_autobahn(self, data: Octets) -> None:
        """Let Autobahn take frames until the share of this turn is over, and put off the rest."""
        start, turns = 0, self.factory.turns
        if self.is_held:  # until now
            self.is_held = False
            self.feed(b"")
        while start < len(data) and not (self.is_held or self.is_held_up or (start and turns.is_over)):
            end = start + max(SLICE, min(PIECE, self._frame_rest(data, start)))
            self.feed(bytes(data[start:end]))
            start = end
            if self.phase >= LINGERING:
                self.forget_unparsed()
                return
        self.account.unparsed = len(self.data)
        if start < len(data):
            self.put_off(data[start:])
        self.is_held = self.is_held and (not self.is_between_frames or self._tasks is not None)
        if self._put_off or self._read_ahead or self.is_held or self._tasks is not None:
            if not self.is_held_up:
                turns.add(self.whole)
            self.pause(Pause.BEHIND)

    def _frame_rest(self, data: Octets, start: int) -> int:
        # A deflated message goes in slices. Each slice is inflated in one go, to a thousand times as much, or to
        # nothing after as long a time.
        if self.is_between_frames:
            return 0 if self.extension is not None else _frame_size(data, start)
        return 0 if self.inside_message and self.is_message_compressed else self.open_frame_rest()

    def take_up(self) -> None:
        """Go on with what was put off, once the tasks are done."""
        self.do_tasks()
        if self._tasks is not None:
            return
        # The carrier stays paused until it is known whether something is left.
        self.lift(Pause.BEHIND)
        data = self._put_off
        self.put_off(b"")
        if not data:
            data, self._read_ahead = bytes(self._read_ahead), b""
            self.account.read_ahead = 0
        self.receive(data)
        if self._read_ahead:
            self.pause(Pause.BEHIND)

    @property
    def is_idle(self) -> bool:
        """Whether nothing of a message or frame has come that is not whole."""
        return self._large is None and self.is_between_messages

    # Autobahn tells of each frame.

    def onMessageFrameBegin(self, length: int) -> None:
        """Hold the frame against the limits on octets and on the number of frames, of which many may be empty.

        Autobahn's own limit takes the octets of a deflated frame for those of the message, and refuses an
        incompressible one of just the limit, which deflate makes longer: by 4 % at zlib's lowest memLevel.
        """
        self._fragments += 1
        self._wire_size += length
        limit = self.factory.settings.message_limit
        if self._wire_size > (limit + limit // 16 + 1024 if self.is_message_compressed else limit):
            self.fail(1009, f"message longer than {limit} octets")
        elif self._fragments > self.factory.settings.max_fragments:
            self.fail(1008, "too many fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        """Gather in one buffer: a list of small pieces takes many times what is in them."""
        if not self.in_open_state:
            return  # our Close frame is out: there is no echo any more, and nothing to keep for it
        if not self._gathered:
            self._gathered = payload
        else:
            if isinstance(self._gathered, bytes):
                self._gathered = bytearray(self._gathered)
            self._gathered += payload
        self.account.message = len(self._gathered)
        # What Autobahn bounds the next inflation by.
        self.message_data_total_length = len(self._gathered)
        limit = self.factory.settings.message_limit
        if len(self._gathered) > limit:
            self.fail(1009, f"message longer than {limit} octets when inflated")

    def onMessageFrameEnd(self) -> None:
        """Do nothing: the frame is gathered."""

    def onMessageEnd(self) -> None:
        """Hand the whole message on: to `onMessage`, or first to what the path makes of it."""
        payload, is_binary = bytes(self._gathered), self.message_is_binary
        self.forget_message()
        self._fragments = self._wire_size = 0
        if not self.in_open_state:
            return
        self._note_received(payload, is_binary)
        if self._transform is None:
            self.onMessage(payload, is_binary)
        elif is_binary:
            self.fail(1007, "binary is not JSON")
        else:
            self.do(self._transforming(payload), len(payload), is_long=len(payload) > STEP)
        self.is_held = self.is_held or self.factory.turns.is_over

    def _note_received(self, payload: bytes, is_binary: bool) -> None:
        self.factory.counts.received.add(len(payload), is_binary)
        traffic = self.own_traffic
        traffic.received_messages += 1
        traffic.received_octets += len(payload)
        if self.factory.settings.log_messages:
            text = describe_message(payload, is_binary, self.factory.settings.log_cut)
            connection_log.info("recv: {text}", text=text, **{log.UNLIMITED: True})

    def _transforming(self, payload: bytes) -> Iterator[bytes]:
        assert self._transform is not None
        try:
            payload = yield from self._transform(payload, self.factory.settings.max_json_values)
        except json_echo.NotJSONError as error:
            self.fail_instead(1007, str(error))
        except json_echo.TooManyValuesError as error:
            self.fail_instead(1009, str(error))
        else:
            self.onMessage(payload, False)

    # The echo goes out.

    def sendMessage(
        self,
        payload: bytes,
        isBinary: bool = False,
        fragmentSize: int | None = None,  # noqa: ARG002
        sync: bool = False,  # noqa: ARG002
        doNotCompress: bool = False,
    ) -> None:
        """Send the echo of the current message, unless the URL asks for something else.

        Frames are as long as the URL asks, and there is no other way to send than at once: of Autobahn's further
        arguments `doNotCompress` alone is taken.
        """
        # On a connection that can mirror, each end's compressor has seen what the other's has. So a message that came
        # deflated is deflated here, however short it is.
        is_plain = (
            doNotCompress
            or not self.is_message_compressed
            or (len(payload) < self.factory.settings.min_deflated and not self.extension.terms.can_mirror)
        )
        if self.faulty is None:
            self.answer(payload, isBinary, is_plain)
        else:
            self.faulty.take(payload, isBinary, is_plain)

    def answer(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Send a message, not deflated if `is_plain`."""
        if not self.in_open_state:
            return  # our Close frame is out already: nothing may follow it (RFC 6455 section 5.5.1)
        if is_plain:
            self.sendFrame(2 if is_binary else 1, payload)
            self._note_sent(payload, is_binary)
        else:
            self.do(self.answering(payload, is_binary, is_plain), len(payload))

    def answering(
        self, payload: bytes, is_binary: bool, is_plain: bool, frame_size: int | None = None
    ) -> Iterator[bytes]:
        """Send a message, not deflated if `is_plain`, in frames of at most `frame_size` octets of payload."""
        # Not by Autobahn's sendMessage, which has the extension deflate it, and holds that against the limit for what
        # is received, and raises: an incompressible message of just that size is a few octets more when deflated.
        octets = payload if is_plain else (yield from self.extension.answer(payload))
        size = frame_size or max(1, len(octets))
        if len(octets) > size * self.factory.settings.max_fragments:
            self.fail_instead(1008, "too many fragments")
            return
        self.account.answer = 0 if is_plain else len(octets)  # a plain one is the payload, which the task holds
        try:
            # The first frame alone says that the message is deflated (RFC 7692 section 6).
            yield from stages.in_frames(octets, size, 2 if is_binary else 1, 0 if is_plain else PER_MESSAGE_COMPRESSED)
        finally:
            self.account.answer = 0
        self._note_sent(payload, is_binary)

    def _note_sent(self, payload: bytes, is_binary: bool) -> None:
        self.factory.counts.sent.add(len(payload), is_binary)
        traffic = self.own_traffic
        traffic.sent_messages += 1
        traffic.sent_octets += len(payload)

    # What is kept, each with its entry in the account.

    def keep_large(self, large: Large | None) -> None:
        """Keep a large frame, or what there is of it by now; None: keep none."""
        self._large = large
        self.account.message = 0 if large is None else large.held

    def put_off(self, data: Octets) -> None:
        """Keep what was read and has to wait."""
        self._put_off = data
        # A view keeps all of its buffer.
        self.account.put_off = memoryview(data.obj).nbytes if isinstance(data, memoryview) else len(data)

    def read_ahead(self, data: bytes) -> None:
        """Keep what comes after what was put off, perhaps in thousands of pieces. Both are too much to be copied for
        each."""
        self._read_ahead = self._read_ahead or bytearray()
        self._read_ahead += data
        self.account.read_ahead = len(self._read_ahead)

    def forget_message(self) -> None:
        """Drop what has been gathered of the current message, but for a large frame, whose rest still has to come."""
        self._gathered = b""
        if self._large is None:
            self.account.message = 0

    def forget_unparsed(self) -> None:
        """Drop what Autobahn has not looked at."""
        self.forget_rest()
        self.account.unparsed = 0

    def forget_what_came(self) -> None:
        """Drop all that has come and is not echoed."""
        self._gathered = self._put_off = self._read_ahead = b""
        self._large = None
        account = self.account
        account.message = account.put_off = account.read_ahead = 0
        self.is_held = False
        if self.extension is not None:
            self.extension.forget_what_came()


def _frame_size(data: Octets, start: int) -> int:
    """Return the octets of the frame that begins there, with its header (RFC 6455 section 5.2), or fewer where that is
    cut."""
    length = data[start + 1] & 0x7F if start + 1 < len(data) else 0
    if length < 126:
        return 6 + length
    size = 2 if length == 126 else 8
    return 6 + size + int.from_bytes(data[start + 2 : start + 2 + size])

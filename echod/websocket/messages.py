"""The way of a message, from the bytes of its frames to its echo.

    receive_frames → the codec → sendData
                   → or Autobahn → onMessageFrame… → onMessageEnd → onMessage → sendMessage → answer → sendData

The codec echoes ordinary frames by itself. Autobahn parses all others, and `EchoProtocol.onMessage` echoes their
messages. Two more steps are on the way of some messages: before `onMessage` a path may change a text
(`_transforming`), and `Faulty.take` stands in the place of `answer` where the URL asks for faults. `answer` sends a
plain message at once; `answering`, a task, sends any other. `sendData` leads to `_write`, and `flush` writes to the
carrier. While the pump has a lease, messages never come here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from echod.core import log
from echod.core.printable import describe_message
from echod.core.turns import STEP
from echod.faults import frames
from echod.lane.codec import Codec
from echod.lane.large import Large, Octets
from echod.websocket import json_echo
from echod.websocket.frame_report import FrameReport
from echod.websocket.pauses import Pause
from echod.websocket.phase import CLOSING, LINGERING
from echod.websocket.work import Working

SLICE = 1024
"""Bytes to feed Autobahn at a time, unless one frame is longer. Autobahn copies its remaining buffer once per frame, so
a 64 KiB read of empty messages would copy half a gigabyte. A frame that is cut costs more than a whole one."""

PIECE = 64 * 1024
"""The most bytes of one frame to feed Autobahn at a time. They take Autobahn about as long as `SLICE` bytes of small
frames."""

PER_MESSAGE_COMPRESSED = 4
"""RSV1 in the first frame of a deflated message (RFC 7692 section 6)."""

ORDINARY = b"\x81\x82"
"""The first bytes of frames that the codec may take: whole messages that are not deflated, text or binary (RFC 6455
section 5.2)."""


class Messages(Working):
    """The messages of a connection."""

    __slots__ = ("_codec", "_fragments", "_gathered", "_is_binary", "_large", "_put_off", "_read_ahead", "_wire_size")

    def __init__(self) -> None:
        super().__init__()
        self._codec: Codec | None = None
        """Echoes ordinary frames; None without native code, and where messages are logged, changed by the path, or
        subject to faults."""
        self._large: Large | None = None
        """A large frame that the codec has begun to collect."""
        self._gathered: bytes | bytearray = b""
        """The bytes of the current message that have arrived."""
        self._is_binary = False
        self._fragments = self._wire_size = 0
        """How many frames the current message has, and the bytes that their headers say."""
        self._put_off: Octets = b""
        """Bytes that were read and have to wait, because to process them now would take too long."""
        self._read_ahead: bytes | bytearray = b""
        """Bytes that were read after the put-off ones."""

    slice_size = SLICE
    """How many bytes Autobahn is fed at a time, unless one frame is longer."""

    _transform: Callable[[bytes, int], Generator[bytes, None, bytes]] | None = None
    """Changes a text before it is echoed, as the path asks; None: echo it as it came."""

    report: FrameReport | None = None
    """Tells the client of its frames, in place of echoes (`/frames`); None: the connection echoes."""

    # Bytes arrive.

    def receive_frames(self, data: Octets) -> None:
        """Process bytes of frames."""
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
        """Collect more of a large frame without Autobahn. Return the bytes behind the frame; if the frame is invalid,
        return the frame itself, so that Autobahn finds the fault."""
        rest: Octets = b"" if large.is_invalid else large.feed(data)
        self.keep_large(None if large.is_invalid or large.is_complete else large)
        if large.is_invalid:
            self._codec = None  # Autobahn finds the fault and fails the connection, so nothing follows
            return large.taken()
        if large.is_complete and self.in_open_state:  # otherwise our Close frame is out already: see `answer`
            self.echoed(1, large.size)
            self.sendData(large.answer())
        return rest

    def _feed_autobahn(self, data: Octets) -> None:
        """Feed Autobahn until the share of this turn is over, and put off the rest."""
        start, turns = 0, self.factory.turns
        if self.autobahn_is_frozen:  # until now
            self.autobahn_is_frozen = False
            self.feed(b"")
        while start < len(data) and not (self.autobahn_is_frozen or self.is_paused_by_url or (start and turns.is_over)):
            end = start + max(self.slice_size, min(PIECE, self._frame_rest(data, start)))
            feed = self.feed if self.report is None else self.report.feed
            feed(bytes(data[start:end]))
            start = end
            if self.phase >= LINGERING:
                self.forget_unparsed()
                return
        self.account.unparsed = self.unparsed_size
        if start < len(data):
            self.put_off(data[start:])
        if self.autobahn_is_frozen:
            self.autobahn_is_frozen = not self.is_between_frames or self._tasks is not None
        if self._put_off or self._read_ahead or self.autobahn_is_frozen or self._tasks is not None:
            if not self.is_paused_by_url:
                turns.add(self.whole)
            self.pause(Pause.BEHIND)

    def _frame_rest(self, data: Octets, start: int) -> int:
        # A deflated message is fed in slices. Each slice is inflated in one go, to as much as a thousand times its
        # size, or to nothing after as long a time.
        if self.is_between_frames:
            return 0 if self.extension is not None else _frame_size(data, start)
        return 0 if self.is_in_compressed_message else self.open_frame_rest()

    def take_up(self) -> None:
        """Go on with the put-off bytes once the tasks are done."""
        self.do_tasks()
        if self._tasks is not None:
            return
        # The carrier stays paused until it is known whether something is left to do.
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
        """Whether no part of an incomplete message or frame has arrived."""
        return self._large is None and self.is_between_messages

    # Autobahn reports each frame.

    def onMessageBegin(self, isBinary: bool) -> None:
        """Begin a message."""
        self._is_binary = isBinary
        self.note_inflated(0)

    def onMessageFrameBegin(self, length: int) -> None:
        """Check the frame against the limits on bytes and on the number of frames, of which many may be empty.

        Autobahn compares the deflated size with the limit. So it would refuse an incompressible message of exactly the
        limit, which deflate makes longer: by up to 4 % at zlib's lowest memLevel.
        """
        self._fragments += 1
        self._wire_size += length
        limit = self.factory.settings.message_limit
        if self._wire_size > (limit + limit // 16 + 1024 if self.is_message_compressed else limit):
            self.fail(1009, f"message longer than {limit} octets")
        elif self._fragments > self.factory.settings.max_fragments:
            self.fail(1008, "too many fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        """Gather the pieces in one buffer. A list of small pieces takes many times the memory of their bytes."""
        if self.phase >= CLOSING:
            return  # our Close frame is out: there will be no echo, so nothing needs to be kept
        if not self._gathered:
            self._gathered = payload
        else:
            if isinstance(self._gathered, bytes):
                self._gathered = bytearray(self._gathered)
            self._gathered += payload
        self.account.message = len(self._gathered)
        self.note_inflated(len(self._gathered))
        limit = self.factory.settings.message_limit
        if len(self._gathered) > limit:
            self.fail(1009, f"message longer than {limit} octets when inflated")

    def onMessageFrameEnd(self) -> None:
        """Do nothing: the frame is gathered."""

    def onMessageEnd(self) -> None:
        """Pass the complete message to `onMessage`; first the path may change it."""
        payload, is_binary = bytes(self._gathered), self._is_binary
        self.forget_message()
        self._fragments = self._wire_size = 0
        if self.phase >= CLOSING:
            return
        self._note_received(payload, is_binary)
        if self.report is not None:
            pass  # its frames are told of
        elif self._transform is None:
            self.onMessage(payload, is_binary)
        elif is_binary:
            self.fail(1007, "binary is not JSON")
        else:
            self.do(self._transforming(payload), len(payload), is_long=len(payload) > STEP)
        if self.factory.turns.is_over:
            self.autobahn_is_frozen = True

    def _note_received(self, payload: bytes, is_binary: bool) -> None:
        self.factory.counts.received.add(len(payload), is_binary)
        traffic = self.own_traffic
        traffic.received_messages += 1
        traffic.received_octets += len(payload)
        if self.factory.settings.log_messages:
            self._tell_message(payload, is_binary)

    def _tell_message(self, payload: bytes, is_binary: bool) -> None:
        kind = "binary" if is_binary else "text"
        text = describe_message(payload, is_binary, self.factory.settings.log_cut)
        fields = {"event": "message", "type": kind, "length": len(payload), "payload": text}
        self.tell("recv {kind}: {text}", fields, kind=kind, text=text, **{log.UNLIMITED: True})

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

        Of Autobahn's optional arguments only `doNotCompress` has an effect: the URL decides the size of frames, and
        everything is sent at once.
        """
        # On a connection that can mirror, the compressors of both ends have seen the same bytes. So an echo is deflated
        # if its message was, however short it is.
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
        if self.phase >= CLOSING:
            return  # our Close frame is out already: nothing may follow it (RFC 6455 section 5.5.1)
        if is_plain:
            self.sendFrame(2 if is_binary else 1, payload)
            self._note_sent(payload, is_binary)
        else:
            self.do(self.answering(payload, is_binary, is_plain), len(payload))

    def answering(
        self, payload: bytes, is_binary: bool, is_plain: bool, frame_size: int | None = None
    ) -> Iterator[bytes]:
        """Send a message, not deflated if `is_plain`, in frames of at most `frame_size` bytes of payload."""
        # Do not use Autobahn's sendMessage. It compares the deflated size with the limit for received messages, and
        # raises for an incompressible message of exactly that size.
        octets = payload if is_plain else (yield from self.extension.answer(payload))
        size = frame_size or max(1, len(octets))
        if len(octets) > size * self.factory.settings.max_fragments:
            self.fail_instead(1008, "too many fragments")
            return
        self.account.answer = 0 if is_plain else len(octets)  # a plain answer is the payload, which the task holds
        try:
            # Only the first frame says that the message is deflated (RFC 7692 section 6).
            yield from frames.in_frames(octets, size, 2 if is_binary else 1, 0 if is_plain else PER_MESSAGE_COMPRESSED)
        finally:
            self.account.answer = 0
        self._note_sent(payload, is_binary)

    def _note_sent(self, payload: bytes, is_binary: bool) -> None:
        self.factory.counts.sent.add(len(payload), is_binary)
        traffic = self.own_traffic
        traffic.sent_messages += 1
        traffic.sent_octets += len(payload)

    # What is kept, and the entry of each part in the account.

    def keep_large(self, large: Large | None) -> None:
        """Keep a large frame, or the part of it that has arrived; None: keep none."""
        self._large = large
        self.account.message = 0 if large is None else large.held

    def put_off(self, data: Octets) -> None:
        """Keep bytes that were read and have to wait."""
        self._put_off = data
        # A view keeps the whole of its buffer in memory.
        self.account.put_off = memoryview(data.obj).nbytes if isinstance(data, memoryview) else len(data)

    def read_ahead(self, data: bytes) -> None:
        """Keep bytes that arrive behind the put-off ones, possibly in thousands of pieces.

        One buffer collects them, because joining them with the put-off bytes would copy everything for each piece.
        """
        self._read_ahead = self._read_ahead or bytearray()
        self._read_ahead += data
        self.account.read_ahead = len(self._read_ahead)

    def forget_message(self) -> None:
        """Drop the gathered bytes of the current message, but keep a large frame, whose rest still has to arrive."""
        self._gathered = b""
        if self._large is None:
            self.account.message = 0

    def forget_unparsed(self) -> None:
        """Drop the bytes that Autobahn has not processed."""
        self.forget_rest()
        self.account.unparsed = 0

    def forget_what_came(self) -> None:
        """Drop everything that has arrived and is not echoed."""
        self._gathered = self._put_off = self._read_ahead = b""
        self._large = None
        account = self.account
        account.message = account.put_off = account.read_ahead = 0
        self.autobahn_is_frozen = False
        if self.extension is not None:
            self.extension.forget_what_came()


def _frame_size(data: Octets, start: int) -> int:
    """Return the size of the frame that begins at `start`, including its header (RFC 6455 section 5.2). If the header
    is cut, the size may be too small."""
    length = data[start + 1] & 0x7F if start + 1 < len(data) else 0
    if length < 126:
        return 6 + length
    size = 2 if length == 126 else 8
    return 6 + size + int.from_bytes(data[start + 2 : start + 2 + size])

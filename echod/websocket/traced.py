"""`--log-frames`: a connection whose opening, frames and end are told, each in a line of the log. Its last frames are
kept to be shown.

With the option, the factory makes a connection of the class `Traced` and the protocol's own. Without it, no connection
pays anything. A traced connection stays in Python: all its bytes come through `feed` and `_write`.

The rate of the lines is limited here and not in the log, so that a line that is left out costs next to nothing.

Knows what is told, and when. Must never know what a frame means.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.interfaces import IProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echod.core.account import TracedAccount
from echod.core.counts import NO_CLOSE_FRAME
from echod.core.deadlines import Deadlines, Ticker
from echod.core.log import UNLIMITED
from echod.core.printable import escape
from echod.http.head_reader import HeadReader
from echod.http.upgrade import HandshakeGuard, Http2, Verdict
from echod.websocket.connection import Connection
from echod.websocket.frames import Frame, FrameReader, show
from echod.websocket.info import show_field
from echod.websocket.phase import LINGERING, OPENING

FED = 128
"""Bytes to feed Autobahn at a time: up to 21 frames, for each of which, and for its answer, there may be a line. In
these pieces a connection still notices in time that its turn is over."""

OVERHEAD = 300
"""Bytes that a kept frame takes in addition to its payload: two tuples, their numbers, and the heads of these
objects."""

_log = Logger(namespace="echod.connection")


class Tracing:
    """What all traced connections share: who they are, and how many lines there may be."""

    def __init__(self, rate: int, ticker: Ticker) -> None:
        """`rate`: the most lines of each kind in a second."""
        self.live: dict[str, Traced] = {}
        """The live traced connections by their numbers."""
        self._rate = rate
        self._written: Counter[str] = Counter()
        self._left_out = 0
        self._seconds: Deadlines[Tracing] = Deadlines(ticker, 1.0, Tracing.end_second)

    def admits(self, kind: str) -> bool:
        """Tell whether there may be one more line of this kind now. If not, it is counted as left out."""
        if self not in self._seconds:
            self._seconds.add(self)
        self._written[kind] += 1
        if self._written[kind] <= self._rate:
            return True
        self._left_out += 1
        return False

    def end_second(self) -> None:
        """Say how many lines were left out, and begin to count anew."""
        self._written.clear()
        left_out, self._left_out = self._left_out, 0
        if left_out:
            text = "{count} lines left out in the last second because of --log-frames-rate"
            _log.warn(text, count=left_out, **{UNLIMITED: True})


class _TracedHead(HeadReader):
    """The request head of a traced connection."""

    __slots__ = ("_has_told", "_tell")

    def __init__(self, guard: HandshakeGuard, tell: Callable[[bytes, bool], None]) -> None:
        """`tell` gets a head, and whether the client is believed to have more of it."""
        super().__init__(guard)
        self._tell = tell
        self._has_told = False

    def feed(self, data: bytes) -> Verdict | Http2 | None:
        """Take bytes; tell of the head as soon as there is a verdict. HTTP/2's preface is no opening: its streams have
        openings."""
        verdict = super().feed(data)
        if verdict is not None and verdict is not Http2.PREFACE:
            # A head that is refused before it is whole is told as far as it is known.
            self._has_told = True
            self._tell(self.head or bytes(self._octets).lstrip() or data, False)
        return verdict

    def tell_rest(self) -> None:
        """Tell of a head that came in part, unless it has been told."""
        if self._octets and not self._has_told:
            self._tell(bytes(self._octets), True)


class _Kept(NamedTuple):
    """A frame that is kept to be shown."""

    at: float
    """When it came or went, by the factory's clock."""
    direction: str
    frame: Frame

    @property
    def size(self) -> int:
        return len(self.frame.payload) + OVERHEAD


class Traced(Connection):
    """A connection of which everything is told."""

    slice_size = FED
    is_traced = True

    def __init__(self) -> None:
        super().__init__()
        self.account: TracedAccount = TracedAccount()
        self._kept: deque[_Kept] = deque()

    def connectionMade(self) -> None:
        """Begin to read frames both ways."""
        most = self.factory.settings.log_cut
        self._received, self._sent = FrameReader(most), FrameReader(most)
        self._tracing.live[self.number] = self
        super().connectionMade()

    # The opening handshake.

    _head: _TracedHead | None = None

    def await_request(self) -> None:
        """Begin to read a request head."""
        self._head = _TracedHead(self.factory.guard, self.note_head)

    def dataReceived(self, data: bytes) -> None:
        """Take bytes. If the connection is to be refused whatever it asks, nobody else reads them."""
        if self.phase is OPENING and self._refusal is not None:
            self.note_head(data, b"\r\n\r\n" not in data)
        super().dataReceived(data)

    def _forget_head(self) -> None:
        if self._head is not None:
            self._head.tell_rest()
        super()._forget_head()

    def note_head(self, head: bytes, is_incomplete: bool = False) -> None:
        """Tell of a request head, or of what has come of it."""
        if self._may_tell("opening"):
            first, fields = self._take_apart(head.partition(b"\r\n\r\n")[0], show_field)
            told: dict[str, Any] = {"peer": self.who, "request": first, "fields": fields}
            text = _on_one_line(first, fields)
            if is_incomplete:
                told["came"] = len(head)
                text += f" (incomplete, {len(head)} octets came)"
            self._tell_event("opening", "opening from {peer}: {head}", told, peer=self.who, head=text)

    def note_answer(self, octets: bytes) -> None:
        """Tell of the head of the answer."""
        if self._may_tell("answer"):
            first, fields = self._take_apart(octets.partition(b"\r\n\r\n")[0], _show_any_field)
            told = {"status": first, "fields": fields}
            self._tell_event("answer", "answer: {head}", told, head=_on_one_line(first, fields))

    def _take_apart(self, head: bytes, show_value: Callable[[bytes, bytes, int], str]) -> tuple[str, list[list[str]]]:
        """Return the first line of a head and its fields, as pairs. What is no field may hold a secret, too."""
        cut, most = self.factory.settings.log_cut, self.factory.settings.max_head_lines
        first, *lines = [line for line in head.split(b"\r\n") if line] or [b""]
        fields = []
        for line in lines[:most]:
            name, colon, value = line.partition(b":")
            if not colon:
                name, value = b"", line
            fields.append([show(name[:cut], True), escape(show_value(name, value.strip(b" \t"), cut))])
        return show(first[: 4 * cut], True), fields

    # Frames.

    def feed(self, data: bytes) -> None:
        """Give Autobahn received bytes frame by frame, and tell of each frame before its end is processed."""
        reader, start = self._received, 0
        while True:
            end = reader.take(data, start)
            if reader.is_complete:
                self._tell_frame("in", reader)
            super().feed(data[start:end])
            start = end
            if start == len(data) or self.phase >= LINGERING:
                return

    def _write(self, octets: bytes) -> None:
        if self.phase is OPENING:
            self.note_answer(octets)
        else:
            reader, start = self._sent, 0
            while start < len(octets):
                start = reader.take(octets, start)
                self._tell_frame("out", reader)  # nobody writes a part of a frame
        super()._write(octets)

    def _tell_frame(self, direction: str, reader: FrameReader) -> None:
        frame = reader.next()
        if frame is None:
            return
        self._keep(direction, frame)
        if self._may_tell("frame"):
            fields = {"direction": direction, **frame.fields()}
            self._tell_event("frame", "{direction} {frame}", fields, direction=direction, frame=str(frame))

    def _keep(self, direction: str, frame: Frame) -> None:
        """Keep a frame, and no more than there may be: none while memory is short."""
        kept = _Kept(self.factory.clock.seconds(), direction, frame)
        self._kept.append(kept)
        self.account.frames += kept.size
        if self.factory.budget.is_tight:
            self._forget_frames()
        elif len(self._kept) > self.factory.settings.kept_frames:
            self.account.frames -= self._kept.popleft().size

    def _forget_frames(self) -> None:
        self._kept.clear()
        self.account.frames = 0

    def wait_for_room(self) -> None:
        """Stop reading, because memory is short. The frames are the first to go."""
        self._forget_frames()
        super().wait_for_room()

    def last_frames(self) -> list[dict[str, Any]]:
        """Return what there is to tell of the last frames, the oldest first. `at` is in seconds from `since` on."""
        return [
            {"at": round(kept.at - self.since, 6), "direction": kept.direction, **kept.frame.fields()}
            for kept in self._kept
        ]

    def fail(self, code: int, reason: str) -> None:
        """Fail the connection. The frame for which it fails may not have come whole."""
        self._tell_frame("in", self._received)
        super().fail(code, reason)

    # The end.

    def hand_over(self, protocol: IProtocol) -> None:
        """Let `protocol` go on with the carrier. Its streams are told of, each by itself."""
        self._tracing.live.pop(self.number, None)
        super().hand_over(protocol)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything, and tell how the connection ended."""
        self._forget_head()
        self._tell_frame("in", self._received)
        if self.phase is OPENING and self._outcome is None:
            self.note_early_end(reason.value)
        if self._may_tell("end"):
            self._tell_end()
        self._tracing.live.pop(self.number, None)
        self._forget_frames()
        super().connectionLost(reason)

    def _tell_end(self) -> None:
        traffic, seconds = self.own_traffic, round(self.factory.clock.seconds() - self.since, 3)
        fields: dict[str, Any] = {
            "outcome": self.outcome,
            "received": _sums(self._received, traffic.received_messages, traffic.received_octets),
            "sent": _sums(self._sent, traffic.sent_messages, traffic.sent_octets),
            "seconds": seconds,
        }
        words: list[str] = [self.outcome]
        if self.is_established:
            code, reason, closer = self.closed_with
            fields |= {"closer": closer, "code": code, "reason": escape(reason)}
            how = "without a Close frame" if code == NO_CLOSE_FRAME else f"with {code} {escape(reason)}".rstrip()
            words.append(f"closed by the {closer} {how}")
        for way in ("received", "sent"):
            words.append(f"{way} {' '.join(f'{name}={count}' for name, count in fields[way].items())}")
        self._tell_event("end", "end: {how}; after {seconds}s", fields, how="; ".join(words), seconds=seconds)

    # Lines.

    @property
    def _tracing(self) -> Tracing:
        assert self.factory.tracing is not None
        return self.factory.tracing

    def _may_tell(self, kind: str) -> bool:
        return self._tracing.admits(kind)

    def _tell_event(self, event: str, words: str, fields: dict[str, Any], **values: Any) -> None:
        self.tell(words, {"event": event, **fields}, **values, **{UNLIMITED: True})


def _show_any_field(_: bytes, value: bytes, cut: int) -> str:
    """Return what is shown of a field of an answer: there is no secret in what echod itself says."""
    return value[:cut].decode(errors="replace") + "…" * (len(value) > cut)


def _sums(reader: FrameReader, messages: int, octets: int) -> dict[str, int]:
    return {"frames": reader.count, "messages": messages, "octets": octets}


def _on_one_line(first: str, fields: list[list[str]]) -> str:
    return " | ".join([first, *(f"{name}: {value}" for name, value in fields)])

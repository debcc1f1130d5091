"""`Faulty` carries out what a connection's URL asks for: it delays, loses or cuts messages, or ends the connection.

Only a connection whose URL asks for a fault has a `Faulty`, between its messages and their echoes. Knows time and
chance. Must never know incoming frames or a transport: it asks an `Afflicted` to act.

Decided:
- Lost messages are chosen first. All others are echoed, perhaps later. `after` counts the echoes that were sent.
- When either side begins a close, all held messages are echoed at once, before the Close frame. So nothing is lost,
  and no close takes longer. Only a fault that ends the connection drops the messages that would come after it.
"""

from __future__ import annotations

import secrets
import struct
from collections import deque
from collections.abc import Callable, Iterator
from math import inf
from random import Random
from typing import Any, NamedTuple, Protocol

from echod.core.account import Account
from echod.core.counts import NO_CLOSE_FRAME, NO_CODE
from echod.core.quantities import MIB
from echod.faults.query import MAX_SEED, Faults
from echod.http.refusals import Refusal

OVERHEAD = 200
"""Bytes that a held message takes in addition to its payload: a tuple, its numbers, and the heads of these objects."""

LOOK = 0.01
"""Before a reset, echod looks whether the peer has taken everything. This is the time in seconds until the second look.
Each wait is twice as long as the one before, so that thousands of peers that take nothing cost nine looks each, not
hundreds."""

STEP_FRAMES = 512
"""The most frames that are made in one step, which takes half a millisecond."""

STEP_OCTETS = MIB
"""The most bytes of payload in these frames. Copying so many takes as long."""

_HEADERS: dict[int, tuple[tuple[str, str], ...]] = {
    401: (("WWW-Authenticate", 'Basic realm="echod"'),),  # RFC 9110 section 15.5.2 wants it
    405: (("Allow", "GET"),),  # section 15.5.6
    407: (("Proxy-Authenticate", 'Basic realm="echod"'),),  # section 15.5.8
    426: (("Upgrade", "websocket"),),  # section 15.5.22
    429: (("Retry-After", "5"),),
    503: (("Retry-After", "5"),),
}


def refusal(status: int) -> Refusal:
    """Return the answer to an opening handshake whose URL asks for `status`."""
    return Refusal(status, "The URL asks for this status", _HEADERS.get(status, ()))


def in_frames(payload: bytes, size: int, opcode: int, rsv: int) -> Iterator[bytes]:
    """Yield a message in frames of at most `size` bytes of payload (RFC 6455 section 5.4), some frames at each step.

    Text may be cut within a character (section 5.6). Autobahn would end a message whose length is a multiple of `size`
    with an empty frame.
    """
    count = max(1, -(-len(payload) // size))
    some = max(1, min(STEP_FRAMES, STEP_OCTETS // size))
    for first in range(0, count, some):
        # `_frames` makes the pieces, so that nothing but the payload is kept between two steps.
        yield b"".join(_frames(payload, size, range(first, min(first + some, count)), count, rsv << 4 | opcode))


def _frames(payload: bytes, size: int, numbers: range, count: int, first_octet: int) -> Iterator[bytes]:
    """Yield the headers and payloads of the frames with these `numbers`, of `count` in all."""
    for number in numbers:
        piece = payload[number * size : (number + 1) * size]
        yield _header((0 if number else first_octet) | (0x80 if number == count - 1 else 0), len(piece))
        yield piece


def _header(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    return struct.pack("!BBH", first, 126, length) if length < 65536 else struct.pack("!BBQ", first, 127, length)


class Afflicted(Protocol):
    """What `Faulty` needs of a connection."""

    @property
    def in_open_state(self) -> bool:
        """Whether the opening handshake is over, and no Close frame was sent."""
        ...

    def perform(self, action: Callable[[], None]) -> None:
        """Run an action of a timer in the way a read is run: no exception escapes. Then resume reading if nothing
        prevents it."""
        ...

    def do(self, task: Iterator[bytes], size: int) -> None:
        """Run a task that may take long and holds `size` bytes, in turns, after all earlier tasks."""
        ...

    def answering(self, payload: bytes, is_binary: bool, is_plain: bool, frame_size: int | None) -> Iterator[bytes]:
        """Send a message, not deflated if `is_plain`, in frames of at most `frame_size` bytes of payload."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def begin_close(self, code: int | None, reason: str) -> None:
        """Send a Close frame; None: without a code."""
        ...

    def pause_for_url(self, is_paused: bool) -> None:
        """Stop or resume reading."""
        ...

    def end_without_close_frame(self) -> None:
        """End the TCP connection, and send no Close frame."""
        ...

    def stall(self) -> None:
        """Take no more bytes until the connection is reset at a deadline."""
        ...

    def prepare_reset(self) -> None:
        """Take no more bytes. A reset follows, and nothing may prevent it."""
        ...

    def count_pending(self) -> int:
        """Return how many written bytes the peer's side has not taken yet."""
        ...

    def send_goaway(self) -> None:
        """Let the HTTP/2 connection below serve no new stream, and end with its last one."""
        ...

    def give_up(self) -> None:
        """Reset the connection."""
        ...


class _Held(NamedTuple):
    due: float
    payload: bytes
    is_binary: bool
    is_plain: bool

    @property
    def size(self) -> int:
        return len(self.payload) + OVERHEAD


class Faulty:
    """The faults of one connection."""

    __slots__ = (
        "_account",
        "_calls",
        "_clock",
        "_connection",
        "_echoed",
        "_held",
        "_is_over",
        "_look",
        "_max_held",
        "_random",
        "faults",
        "is_stalled",
        "seed",
    )

    def __init__(self, faults: Faults, max_held: int, clock: Any, connection: Afflicted, account: Account) -> None:
        """`max_held` is in bytes; `clock` is the reactor. Held messages are entered in `account`."""
        self.faults = faults
        self.seed = secrets.randbelow(MAX_SEED + 1) if faults.seed is None else faults.seed
        """The choice of lost messages depends on it. The URL gives it, or it is drawn."""
        # `random()` after `seed(int)` is one of the few things that Python promises to keep the same.
        self._random = Random(self.seed)
        self._max_held = max_held
        self._clock = clock
        self._connection = connection
        self._held: deque[_Held] = deque()
        self._account = account
        self._echoed = 0
        self._is_over = False
        self._look = LOOK
        self.is_stalled = False
        # The delayed calls by their actions.
        self._calls: dict[Callable[[], None], Any] = {}

    # The opening handshake.

    def postpone(self, answer: Callable[[], None]) -> None:
        """Call `answer` when it is time to answer the opening handshake."""
        self._call_later(self.faults.handshake_delay, answer)

    def begin(self) -> None:
        """Begin: the connection is open."""
        self._plan_ping()
        self._end_if_due()

    # Messages.

    def _hold(self, octets: int) -> None:
        """Enter held bytes in the account, or take them out if `octets` is negative. While there are too many, nothing
        is read."""
        was_full = self._is_full
        self._account.delayed += octets
        if self._is_full != was_full:
            self._connection.pause_for_url(self._is_full)

    @property
    def _is_full(self) -> bool:
        return self._account.delayed >= self._max_held

    def take(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Lose a message, hold it, or echo it."""
        if self._is_over or (self.faults.drop and self._random.random() < self.faults.drop):
            return
        if not self.faults.delay:
            self._connection.do(self._echo(payload, is_binary, is_plain), len(payload))
            return
        held = _Held(self._clock.seconds() + self.faults.delay, payload, is_binary, is_plain)
        self._held.append(held)
        self._hold(held.size)
        if len(self._held) == 1:
            self._call_later(self.faults.delay, self._release)

    def flush(self) -> None:
        """Echo all held messages before anything else is sent."""
        self._cancel(self._release)
        if self._held:
            self._connection.do(self._echo_held(inf), 0)

    def stop(self) -> None:
        """Forget everything: the connection is over."""
        self._held.clear()
        self._account.delayed = 0
        for call in self._calls.values():
            call.cancel()
        self._calls.clear()

    def _release(self) -> None:
        self._connection.do(self._echo_held(self._clock.seconds()), 0)

    def _echo_held(self, now: float) -> Iterator[bytes]:
        while self._held and self._held[0].due <= now:
            held = self._held[0]
            yield from self._answer(held.payload, held.is_binary, held.is_plain)
            self._held.popleft()
            self._hold(-held.size)
            self._count_echo()
        if self._held:
            self._call_later(max(0, self._held[0].due - self._clock.seconds()), self._release)

    def _echo(self, payload: bytes, is_binary: bool, is_plain: bool) -> Iterator[bytes]:
        yield from self._answer(payload, is_binary, is_plain)
        self._count_echo()

    def _answer(self, payload: bytes, is_binary: bool, is_plain: bool) -> Iterator[bytes]:
        return self._connection.answering(payload, is_binary, is_plain, self.faults.fragment)

    def _count_echo(self) -> None:
        self._echoed += 1
        self._end_if_due()

    # The end.

    def _end_if_due(self) -> None:
        faults = self.faults
        if self._echoed != faults.after or not self._connection.in_open_state:
            return
        if faults.close is not None or faults.abort or faults.stall:
            self._is_over = True
            self._held.clear()
            self._hold(-self._account.delayed)
            self._cancel(self._release)
            self._close()
        # These are not done now, because the answers to this read are not written yet.
        if faults.goaway:
            self._call_later(0, self._connection.send_goaway)
        if faults.abort:
            self._connection.prepare_reset()
            self._call_later(0, self._reset_when_taken)
        elif faults.stall:
            self.is_stalled = True
            self._connection.stall()

    def _close(self) -> None:
        code = self.faults.close
        if code == NO_CLOSE_FRAME:
            self._connection.end_without_close_frame()
        elif code is not None:
            self._connection.begin_close(None if code == NO_CODE else code, self.faults.reason)

    def _reset_when_taken(self) -> None:
        # A reset overtakes bytes that are under way, and the peer's kernel drops what was not read there.
        if self._connection.count_pending():
            self._call_later(self._look, self._reset_when_taken)
            self._look *= 2
        else:
            self._connection.give_up()

    # Pings.

    def _plan_ping(self) -> None:
        if self.faults.ping is not None and self._connection.in_open_state:
            self._call_later(self.faults.ping, self._ping)

    def _ping(self) -> None:
        self._connection.ping()
        self._plan_ping()

    # Time.

    def _call_later(self, seconds: float, action: Callable[[], None]) -> None:
        self._calls[action] = self._clock.callLater(seconds, self._called, action)

    def _called(self, action: Callable[[], None]) -> None:
        del self._calls[action]
        self._connection.perform(action)

    def _cancel(self, action: Callable[[], None]) -> None:
        call = self._calls.pop(action, None)
        if call is not None:
            call.cancel()

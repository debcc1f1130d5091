"""What happens to messages between their arrival and their echo: they are lost, held or cut.

A method of `Messages` has the name of its parameter. It takes a message and returns it, perhaps changed, or None if the
message goes no further. Knows time and chance.

Decided:
- Lost messages are chosen first. All others are echoed, perhaps later.
- When either side begins a close, all held messages are echoed at once, before the Close frame. So nothing is lost,
  and no close takes longer. Only a fault that ends the connection drops the messages that would come after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from math import inf
from random import Random
from typing import NamedTuple

from echod.faults.ending import Ending
from echod.faults.stage import Shared
from echod.faults.table import Moment

OVERHEAD = 200
"""Bytes that a held message takes in addition to its payload: a tuple, its numbers, and the heads of these objects."""


class Message(NamedTuple):
    """A message to be echoed."""

    payload: bytes
    is_binary: bool
    is_plain: bool
    """Whether its echo must not be deflated."""
    frame_size: int | None = None
    """The most bytes of payload in each frame of its echo; None: it is one frame."""
    due: float = 0.0
    """When it is echoed, if it is held."""

    @property
    def size(self) -> int:
        """How many bytes it takes while it is held."""
        return len(self.payload) + OVERHEAD


class Messages:
    """The messages of one connection."""

    __slots__ = ("_ending", "_held", "_it", "_mutating", "_passed", "_random", "_steps")

    def __init__(self, shared: Shared, ending: Ending | None) -> None:
        """Held messages are entered in the account. `ending` is told of each echo."""
        self._it = shared
        self._ending = ending
        # `random()` after `seed(int)` is one of the few things that Python promises to keep the same.
        self._random = Random(shared.seed)
        self._mutating: Random | None = None
        self._passed = 0
        self._held: deque[Message] = deque()
        # These functions are not bound to this object, which would then refer to itself.
        self._steps = tuple((getattr(Messages, name), value) for name, value in shared.faults.at(Moment.MESSAGES))

    def take(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Lose a message, hold it, or echo it."""
        if self._is_over:
            return
        message: Message | None = Message(payload, is_binary, is_plain)
        for step, value in self._steps:
            message = step(self, message, value)
            if message is None:
                return
        assert message is not None
        self._it.connection.do(self._echo(message), len(payload))

    def _echo(self, message: Message) -> Iterator[bytes]:
        yield from self._it.connection.answering(*message[:4])
        self._count_echo()

    @property
    def _is_over(self) -> bool:
        return self._ending is not None and self._ending.is_over

    def _count_echo(self) -> None:
        if self._ending is not None:
            self._ending.count_echo()
            if self._ending.is_over:
                self._forget()

    # The parameters.

    def drop(self, message: Message, share: float) -> Message | None:
        """Lose a share of the messages."""
        return None if self._random.random() < share else message

    def mutate(self, message: Message, every: int) -> Message:
        """Flip a bit in one of so many echoes. The lowest bit of a character's last octet leaves a text UTF-8."""
        self._passed += 1
        if self._passed % every or not message.payload:
            return message
        if self._mutating is None:
            self._mutating = Random(self._it.seed + 2**32)
        payload = memoryview(message.payload)
        at = int(self._mutating.random() * len(payload))
        bit = 0
        if message.is_binary:
            bit = int(self._mutating.random() * 8)
        else:
            while at + 1 < len(payload) and payload[at + 1] & 0xC0 == 0x80:
                at += 1
        flipped = bytes((payload[at] ^ 1 << bit,))
        # One copy and no more: each takes milliseconds for the longest messages.
        return message._replace(payload=b"".join((payload[:at], flipped, payload[at + 1 :])))

    def fragment(self, message: Message, size: int) -> Message:
        """Cut the echo into frames."""
        return message._replace(frame_size=size)

    def delay(self, message: Message, seconds: float) -> None:
        """Hold the message."""
        held = message._replace(due=self._it.clock.seconds() + seconds)
        self._held.append(held)
        self._hold(held.size)
        if len(self._held) == 1:
            self._it.timers.call_later(seconds, self._release)

    # Held messages.

    def _hold(self, octets: int) -> None:
        """Enter held bytes in the account, or take them out if `octets` is negative. While there are too many, nothing
        is read."""
        was_full = self._is_full
        self._it.account.delayed += octets
        if self._is_full != was_full:
            self._it.connection.pause_for_url(self._is_full)

    @property
    def _is_full(self) -> bool:
        return self._it.account.delayed >= self._it.settings.max_delayed

    def _release(self) -> None:
        self._it.connection.do(self._echo_held(self._it.clock.seconds()), 0)

    def _echo_held(self, now: float) -> Iterator[bytes]:
        while self._held and self._held[0].due <= now:
            held = self._held[0]
            yield from self._it.connection.answering(*held[:4])
            self._held.popleft()
            self._hold(-held.size)
            self._count_echo()
        if self._held:
            self._it.timers.call_later(max(0, self._held[0].due - self._it.clock.seconds()), self._release)

    def flush(self) -> None:
        """Echo all held messages before anything else is sent."""
        self._it.timers.cancel(self._release)
        if self._is_over:
            self._forget()
        elif self._held:
            self._it.connection.do(self._echo_held(inf), 0)

    def _forget(self) -> None:
        """Drop all held messages, and read on."""
        self._held.clear()
        self._hold(-self._it.account.delayed)
        self._it.timers.cancel(self._release)

    def stop(self) -> None:
        """Drop all held messages: the connection is over."""
        self._held.clear()
        self._it.account.delayed = 0

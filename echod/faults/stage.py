"""What the stages of a connection with faults stand on: the connection as they see it, their timers, what they share.

Knows time. Must never know incoming frames or a transport: a stage asks an `Afflicted` to act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from echod.core.account import Account
from echod.core.turns import Turns
from echod.faults.query import Faults
from echod.settings import Settings
from echod.upstream.carriers import Carrier


class Afflicted(Protocol):
    """What the stages need of a connection."""

    carrier: Carrier
    """What carries it."""

    @property
    def in_open_state(self) -> bool:
        """Whether the opening handshake is over, and no Close frame was sent."""
        ...

    @property
    def is_backlogged(self) -> bool:
        """Whether the client does not read what it is sent."""
        ...

    @property
    def lacks_room(self) -> bool:
        """Whether all connections together hold much (`--max-buffered`), so that none should send unasked."""
        ...

    def flush(self) -> None:
        """Write now what the current event has to send so far."""
        ...

    def perform(self, action: Callable[[], None]) -> None:
        """Run an action of a timer in the way a read is run: no exception escapes. Then resume reading if nothing
        prevents it."""
        ...

    def do(self, task: Iterator[bytes], size: int) -> None:
        """Run a task that may take long and holds `size` bytes, in turns, after all earlier tasks."""
        ...

    def answering(
        self, payload: bytes, is_binary: bool, is_plain: bool, frame_size: int | None = None
    ) -> Iterator[bytes]:
        """Send a message, not deflated if `is_plain`, in frames of at most `frame_size` bytes of payload."""
        ...

    @property
    def agreed_window(self) -> tuple[int, bool]:
        """What was agreed on for permessage-deflate: the server's window in bits, and whether it keeps its context."""
        ...

    def send_wrong(self, task: Iterator[bytes], size: int) -> None:
        """Send what need not be frames, as a task that holds `size` bytes."""
        ...

    def ping(self) -> None:
        """Send a ping."""
        ...

    def pong(self, payload: bytes) -> None:
        """Send a pong."""
        ...

    def await_nothing(self) -> None:
        """Keep the connection for the time of a stall, whatever it does."""
        ...

    def cut_off(self) -> None:
        """End the TCP connection as the URL asks, wherever it is."""
        ...

    def read_slowly(self, is_paused: bool) -> None:
        """Stop or resume reading, and process what was read."""
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


class Timers:
    """The delayed calls of one connection, by their actions.

    A call that is due stands in a line with those of all other connections. Thousands may be due at once: a connection
    with `slice` has a thousand a second.
    """

    __slots__ = ("_calls", "_clock", "_connection", "_line")

    def __init__(self, clock: Any, connection: Afflicted, line: Line) -> None:
        """`clock` is the reactor."""
        self._clock = clock
        self._connection = connection
        self._line = line
        self._calls: dict[Callable[[], None], Any] = {}

    def another(self) -> Timers:
        """Return other timers of the same connection, to be stopped by themselves."""
        return Timers(self._clock, self._connection, self._line)

    def call_later(self, seconds: float, action: Callable[[], None]) -> None:
        """Let the connection perform `action` after so many seconds. It must not wait already."""
        self._calls[action] = self._clock.callLater(seconds, self._line.add, (self, action))

    def perform(self, action: Callable[[], None]) -> None:
        """Let the connection perform an action that has stood in line, unless it was cancelled meanwhile."""
        call = self._calls.get(action)
        if call is not None and not call.active():
            del self._calls[action]
            self._connection.perform(action)

    def cancel(self, action: Callable[[], None]) -> None:
        """Forget `action`, if it waits."""
        call = self._calls.pop(action, None)
        if call is not None and call.active():
            call.cancel()

    def stop(self) -> None:
        """Forget everything."""
        for action in tuple(self._calls):
            self.cancel(action)


Line = Turns[tuple[Timers, Callable[[], None]]]
"""The actions of all connections that are due."""


def line(clock: Any) -> Line:
    """Return an empty line. `clock` is the reactor."""
    return Turns(clock, lambda due: due[0].perform(due[1]))


@dataclass(frozen=True, slots=True)
class Shared:
    """What the stages of one connection share."""

    faults: Faults
    settings: Settings
    seed: int
    """Decides what is left to chance. The URL gives it, or it is drawn."""
    clock: Any
    connection: Afflicted
    account: Account
    timers: Timers

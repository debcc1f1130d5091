"""`Faulty` carries out what a connection's URL asks for, in stages, each of which acts at one moment.

    opening ─► messages (drop, delay, cut) ─► ending (after so many echoes) ─► wire ─► carrier

Only a connection whose URL asks for a fault has a `Faulty`. It has the stage of its messages, and of the others only
those that the URL asks for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from echod.core.account import Account
from echod.core.budget import READ_SIZE
from echod.faults.ending import Ending
from echod.faults.messages import Messages
from echod.faults.opening import Lines, Opening
from echod.faults.own import Own
from echod.faults.query import Faults
from echod.faults.replies import Replies
from echod.faults.stage import Afflicted, Line, Shared, Timers
from echod.faults.table import MAX_SEED, Moment
from echod.faults.wire import PIECES, Wire
from echod.settings import Settings
from echod.upstream.carriers import Carrier


class Faulty:
    """The faults of one connection."""

    __slots__ = (
        "_ending",
        "_messages",
        "_opening",
        "_owed",
        "_own",
        "_replies",
        "_shared",
        "_timers",
        "_wire",
        "faults",
        "seed",
    )

    def __init__(
        self, faults: Faults, settings: Settings, clock: Any, connection: Afflicted, account: Account, line: Line
    ) -> None:
        """`clock` is the reactor. What is held is entered in `account`. `line` is that of all connections."""
        self.faults = faults
        self.seed = secrets.randbelow(MAX_SEED + 1) if faults.seed is None else faults.seed
        self._timers = Timers(clock, connection, line)
        self._shared = shared = Shared(faults, settings, self.seed, clock, connection, account, self._timers)
        self._ending = Ending(shared) if faults.any_at(Moment.END, Moment.FRAMES) else None
        self._messages = Messages(shared, self._ending)
        self._opening = Opening(faults, settings) if faults.any_at(Moment.OPENING) else None
        self._replies = Replies(shared) if faults.any_at(Moment.REPLIES) else None
        self._wire: Wire | None = None
        self._owed = False
        """Whether the connection is not read, because it was read too fast."""
        self._own = Own(shared) if faults.any_at(Moment.OWN) else None

    # The opening handshake.

    def postpone(self, answer: Callable[[], None]) -> None:
        """Call `answer` when it is time to answer the opening handshake."""
        self._timers.call_later(self.faults.handshake_delay, answer)

    def wrap(self, carrier: Carrier) -> Carrier:
        """Return what delivers as the URL asks for it."""
        if not self.faults.any_at(Moment.WIRE):
            return carrier
        self._wire = Wire(carrier, self._shared)
        return self._wire

    def answer(self, octets: bytes) -> bytes:
        """Return the answer to an opening handshake, a 101 or a refusal, as the URL asks for it."""
        octets = octets if self._opening is None else self._opening.alter(octets)
        if self._wire is not None:
            self._wire.answer(len(octets))
        return octets

    def answer_on_stream(self, status: int, fields: Lines, body: bytes) -> tuple[Lines, bytes]:
        """Return the header fields and the body of the same over HTTP/2."""
        if self._opening is not None:
            fields, body = self._opening.alter_fields(status, fields, body)
        if self._wire is not None:
            self._wire.answer(len(body))
        return fields, body

    def begin(self) -> None:
        """Begin: the connection is open."""
        if self.faults.read_rate is not None:
            self._shared.connection.carrier.set_read_size(min(READ_SIZE, max(1, self.faults.read_rate // PIECES)))
        if self._own is not None:
            self._own.begin()
        if self._ending is not None:
            self._ending.begin()

    # Messages.

    def take(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Do with a message what the URL asks for."""
        if self._replies is None or not self._replies.has_close:
            self._messages.take(payload, is_binary, is_plain)

    def flush(self) -> None:
        """Echo all held messages before anything else is sent."""
        self._messages.flush()

    # Reading.

    def came(self, octets: int) -> None:
        """Note that so many bytes were read, and read no more for as long as they should have taken."""
        rate = self.faults.read_rate
        if rate is not None and not self._owed and self._shared.connection.in_open_state:
            self._owed = True
            self._shared.connection.read_slowly(True)
            self._timers.call_later(min(octets / rate, self._shared.settings.max_read_pause), self._read_on)

    def _read_on(self) -> None:
        self._owed = False
        self._shared.connection.read_slowly(False)

    # Replies.

    def holds_pong(self, payload: bytes) -> bool:
        """Tell whether the answer to a ping is held back."""
        return self._replies is not None and self._replies.holds_pong(payload)

    def holds_close(self, reply: Callable[[], None]) -> bool:
        """Tell whether the reply to a Close frame is held back."""
        return self._replies is not None and self._replies.holds_close(reply)

    # The end.

    def cut_off(self) -> None:
        """End the connection, with a reset if the URL asks for one."""
        if self.faults.abort and self._ending is not None:
            self._ending.abort(True)
        else:
            self._shared.connection.end_without_close_frame()

    @property
    def will_reset(self) -> bool:
        """Whether a reset follows, which the end of the closing handshake or the client's FIN must not forestall."""
        if self.faults.cut is None:
            return self._ending is not None and self._ending.will_reset
        return self.faults.abort and self._wire is not None and self._wire.is_cut

    @property
    def is_stalled(self) -> bool:
        """Whether a Close frame of the client would not be read, or was read and is not answered."""
        return (self._ending is not None and self._ending.is_stalled) or (
            self._replies is not None and self._replies.has_close
        )

    def stop(self) -> None:
        """Forget everything: the connection is over."""
        self._messages.stop()
        if self._replies is not None:
            self._replies.stop()
        self._timers.stop()
        if self._ending is not None:
            self._ending.stop()

    def lose(self) -> None:
        """Forget everything: the connection is gone."""
        self.stop()
        if self._wire is not None:
            self._wire.stop()

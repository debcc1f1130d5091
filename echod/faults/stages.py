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
from echod.faults.ending import Ending
from echod.faults.messages import Messages
from echod.faults.opening import Opening
from echod.faults.own import Own
from echod.faults.query import Faults
from echod.faults.stage import Afflicted, Shared, Timers
from echod.faults.table import MAX_SEED, Moment
from echod.settings import Settings


class Faulty:
    """The faults of one connection."""

    __slots__ = ("_ending", "_messages", "_opening", "_own", "_timers", "faults", "seed")

    def __init__(self, faults: Faults, settings: Settings, clock: Any, connection: Afflicted, account: Account) -> None:
        """`clock` is the reactor. What is held is entered in `account`."""
        self.faults = faults
        self.seed = secrets.randbelow(MAX_SEED + 1) if faults.seed is None else faults.seed
        self._timers = Timers(clock, connection)
        shared = Shared(faults, settings, self.seed, clock, connection, account, self._timers)
        self._ending = Ending(shared) if faults.any_at(Moment.END, Moment.FRAMES) else None
        self._messages = Messages(shared, self._ending)
        self._opening = Opening(faults, settings) if faults.any_at(Moment.OPENING) else None
        self._own = Own(shared) if faults.any_at(Moment.OWN) else None

    # The opening handshake.

    def postpone(self, answer: Callable[[], None]) -> None:
        """Call `answer` when it is time to answer the opening handshake."""
        self._timers.call_later(self.faults.handshake_delay, answer)

    @property
    def alter(self) -> Callable[[bytes], bytes] | None:
        """What makes the answer to the opening handshake wrong; None: it is right."""
        return None if self._opening is None else self._opening.alter

    def begin(self) -> None:
        """Begin: the connection is open."""
        if self._own is not None:
            self._own.begin()
        if self._ending is not None:
            self._ending.begin()

    # Messages.

    def take(self, payload: bytes, is_binary: bool, is_plain: bool) -> None:
        """Do with a message what the URL asks for."""
        self._messages.take(payload, is_binary, is_plain)

    def flush(self) -> None:
        """Echo all held messages before anything else is sent."""
        self._messages.flush()

    # The end.

    @property
    def is_stalled(self) -> bool:
        """Whether the connection is read no more."""
        return self._ending is not None and self._ending.is_stalled

    def stop(self) -> None:
        """Forget everything: the connection is over."""
        self._messages.stop()
        self._timers.stop()

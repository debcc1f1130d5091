"""The conversation: a case is fed to a connection, piece by piece, and what comes of it is noted and judged.

In one process, over a fake transport and a fake clock. Knows what must hold whatever is fed: no exception is logged, nothing takes
a second, nothing is left behind, and the answer is the same however the octets are cut, with the native module and without.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest

from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from echod.factory import EchoFactory
from echod.native import Native
from echod.settings import Settings
from tests.fakes import Peer
from tests.fuzz.material import Case

SETTINGS = Settings(max_message_size=70_000, max_fragments=6, trust_proxy=1, max_connections_per_address=1, max_head_size=1000)

SLOW = 1.0
"""Seconds of CPU that nothing may take."""

# A deflated message may be wrong in two ways: too long, and invalid. How much of it is inflated at a time, and so which of them is
# seen first, depends on how it comes.
_INFLATION = re.compile(rb"(permessage-deflate.*)\x88.\x03(?:\xef|\xf1).*\Z", re.DOTALL)

_DATE = re.compile(rb"\r\nDate: [^\r]*")


@dataclass(frozen=True)
class Outcome:
    """What came of a case."""

    answer: bytes
    is_closing: bool
    is_half_closed: bool
    is_aborted: bool


class _Reactor(Clock):
    """Time, and room for the pump's descriptor, which nothing is leased to here: there is no socket."""

    def addReader(self, _: object) -> None:
        """Do nothing."""

    def removeReader(self, _: object) -> None:
        """Do nothing."""


class Fault(AssertionError):
    """Something does not hold."""


def judge(case: Case, native: Native | None) -> None:
    """Feed a case whole, as it is cut, and in single octets where there are few; raise `Fault` if anything does not hold."""
    whole = converse([case.octets], None)
    ways: list[tuple[str, Sequence[bytes], Native | None]] = [("cut", case.pieces(), None)]
    if native is not None:
        ways += [("whole, native", [case.octets], native), ("cut, native", case.pieces(), native)]
    if len(case.octets) < 500:
        ways.append(("in single octets", [case.octets[i : i + 1] for i in range(len(case.octets))], native))
    for name, pieces, module in ways:
        outcome = converse(pieces, module)
        if outcome != whole:
            raise Fault(f"{name}: {_differ(outcome, whole)}")


def converse(pieces: Sequence[bytes], native: Native | None) -> Outcome:
    """Feed pieces to a new connection of a new factory, and end it."""
    clock = _Reactor()
    factory = EchoFactory(SETTINGS, clock, 10, native)
    with _no_failures():
        peer = Peer(factory)
        answer = b""
        for piece in pieces:
            if piece:
                answer += _quickly(peer, clock, piece)
        transport = peer.transport
        outcome = Outcome(_INFLATION.sub(rb"\1invalid or too long", _DATE.sub(b"", answer)), transport.disconnecting, transport.half_closed, transport.aborted)
        # Whatever the client did, its silence comes to an end.
        clock.pump([1.0] * round(SETTINGS.ping_interval + SETTINGS.ping_timeout + SETTINGS.close_timeout + 10))
        if not (transport.disconnecting or transport.aborted):
            raise Fault("a connection outlives every deadline")
        peer.lose()
        clock.pump([0.1] * 5)
    if factory.live or factory.budget.held or clock.getDelayedCalls():
        raise Fault(f"left behind: {factory.live} {factory.budget.held} {clock.getDelayedCalls()}")
    if factory.lane is not None:
        factory.lane.stop()
    return outcome


def _quickly(peer: Peer, clock: Clock, piece: bytes) -> bytes:
    start = time.process_time()
    answer = peer.send(piece)
    clock.advance(0)
    answer += peer.take()
    if time.process_time() - start > SLOW:
        raise Fault(f"{len(piece)} octets took {time.process_time() - start:.1f} s")
    return answer


@contextmanager
def _no_failures() -> Iterator[None]:
    failures: list[LogEvent] = []

    @implementer(ILogObserver)
    def note(event: LogEvent) -> None:
        if event.get("log_failure") is not None or event.get("log_level") in (LogLevel.error, LogLevel.critical):
            failures.append(event)

    globalLogPublisher.addObserver(note)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(note)
    if failures:
        failure = failures[0].get("log_failure")
        raise Fault(f"logged: {failure.getTraceback() if failure is not None else failures[0]}")


def _differ(one: Outcome, other: Outcome) -> str:
    if one.answer == other.answer:
        return f"{one}, whole {other}"
    at = next(i for i, (a, b) in enumerate(zip_longest(one.answer, other.answer)) if a != b)
    start = max(0, at - 20)
    return f"differs at octet {at}: …{one.answer[start : at + 60]!r}, whole …{other.answer[start : at + 60]!r}"

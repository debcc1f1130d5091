"""Keepalive: a silent peer gets a ping, a dead peer is dropped in time, and any sign of life counts."""

from __future__ import annotations

from itertools import pairwise

import pytest
from twisted.internet.task import Clock

from echod.core.deadlines import TICK, Ticker
from echod.core.keepalive import LOOKS, Keepalive

INTERVAL, TIMEOUT = 20.0, 10.0


class FakeConnection:
    """A connection that sends and takes what the test says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.last_seen = clock.seconds()
        self.pending = 0
        self.seen_before_ping = 0.0
        self.is_waiting = self.is_paused_by_url = False
        self.octets = 0
        self.pings: list[float] = []
        self.given_up: float | None = None

    def count_pending(self) -> int:
        return self.octets

    def ping(self) -> None:
        self.pings.append(self.clock.seconds())
        self.octets += 2

    def give_up(self) -> None:
        self.given_up = self.clock.seconds()


def make(interval: float = INTERVAL, timeout: float = TIMEOUT) -> tuple[Clock, Keepalive, FakeConnection]:
    clock = Clock()
    keepalive = Keepalive(Ticker(clock), interval, timeout)
    connection = FakeConnection(clock)
    keepalive.watch(connection)
    return clock, keepalive, connection


def pump(clock: Clock, seconds: float) -> None:
    clock.pump([0.1] * round(seconds * 10))


def test_a_dead_peer_is_pinged_once_and_dropped_in_time() -> None:
    clock, _, connection = make()
    pump(clock, 60)
    assert len(connection.pings) == 1
    assert INTERVAL <= connection.pings[0] <= INTERVAL + INTERVAL / LOOKS + 0.3
    assert connection.given_up is not None
    assert INTERVAL + TIMEOUT <= connection.given_up <= INTERVAL + INTERVAL / LOOKS + TIMEOUT + 0.6
    assert not clock.getDelayedCalls()


def test_that_the_kernel_takes_the_ping_is_no_sign_of_life() -> None:
    clock, _, connection = make()
    for _ in range(60):
        pump(clock, 1)
        connection.octets = 0
    assert connection.given_up is not None
    assert connection.given_up <= INTERVAL + INTERVAL / LOOKS + TIMEOUT + 0.6


def test_a_client_that_talks_gets_no_ping() -> None:
    clock, _, connection = make()
    for _ in range(60):
        pump(clock, 1)
        connection.last_seen = clock.seconds()
    assert connection.pings == []


def answer_pings(clock: Clock, connection: FakeConnection, seconds: float) -> None:
    for _ in range(round(seconds * 2)):
        pump(clock, 0.5)
        if connection.pings and clock.seconds() - connection.pings[-1] < 0.6:
            connection.last_seen = clock.seconds()
            connection.octets = 0


@pytest.mark.parametrize("timeout", [TIMEOUT, 3 * INTERVAL])
def test_a_pong_is_a_sign_of_life_and_silence_after_it_is_pinged_again(timeout: float) -> None:
    """This holds for any timeout, because a proxy on the way counts the time without traffic."""
    clock, _, connection = make(timeout=timeout)
    answer_pings(clock, connection, 300)
    assert connection.given_up is None
    for before, after in pairwise(connection.pings):
        assert INTERVAL <= after - before <= INTERVAL + INTERVAL / LOOKS + 1


@pytest.mark.parametrize("interval", [TICK / 2, 1.0, INTERVAL])
@pytest.mark.parametrize("timeout", [TICK / 2, 1.0, INTERVAL / LOOKS, TIMEOUT])
def test_a_client_that_answers_at_once_lives(interval: float, timeout: float) -> None:
    """The next look, and the end of the timeout, may come when the pong is older than the interval or the timeout."""
    clock, _, connection = make(interval, timeout)
    for _ in range(round(5 * (interval + timeout) * 100)):
        pings = len(connection.pings)
        clock.advance(0.01)
        if len(connection.pings) > pings:
            clock.advance(0.001)
            connection.last_seen, connection.octets = clock.seconds(), 0
    assert len(connection.pings) > 2
    assert connection.given_up is None


def test_one_that_is_forgotten_while_it_rests_gets_no_look() -> None:
    clock, keepalive, connection = make()
    pump(clock, 2 * INTERVAL / LOOKS)
    keepalive.forget(connection)
    pump(clock, 0.1)
    assert not clock.getDelayedCalls()


def test_one_that_its_ping_closes_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ping may end a lease, which may leave a deflated message that proves invalid. From then on only the deadline
    of the close counts."""
    clock, keepalive, connection = make()
    monkeypatch.setattr(connection, "ping", lambda: keepalive.forget(connection))
    pump(clock, INTERVAL + 2 * INTERVAL / LOOKS + TIMEOUT)
    assert connection.given_up is None
    assert not clock.getDelayedCalls()


def test_a_client_that_answers_a_ping_and_then_dies_is_found_as_soon() -> None:
    clock, _, connection = make()
    answer_pings(clock, connection, INTERVAL * 1.5)
    died = connection.last_seen
    pump(clock, 60)
    assert len(connection.pings) == 2
    assert connection.given_up is not None
    assert INTERVAL + TIMEOUT <= connection.given_up - died <= INTERVAL + INTERVAL / LOOKS + TIMEOUT + 0.6


def test_a_slow_reader_lives() -> None:
    clock, _, connection = make()
    connection.octets = 1_000_000
    for _ in range(100):
        pump(clock, 2)
        connection.octets -= 1
    assert connection.given_up is None


def test_what_is_pending_is_not_asked_for_while_nothing_comes() -> None:
    clock, _, connection = make()
    counted: list[float] = []
    connection.count_pending = lambda: counted.append(clock.seconds()) or 0  # type: ignore[method-assign, func-returns-value]
    pump(clock, INTERVAL + 2 * INTERVAL / LOOKS)
    # One count comes soon after the last read, and one before the ping.
    assert [time // (INTERVAL / LOOKS) for time in counted] == [1, LOOKS]


class CountedConnection(FakeConnection):
    """Counts how often it is looked at: each look asks for the last sign of life."""

    asked: set[float]

    @property
    def last_seen(self) -> float:
        self.asked.add(self.clock.seconds())
        return self._last_seen

    @last_seen.setter
    def last_seen(self, now: float) -> None:
        self._last_seen = now

    def __init__(self, clock: Clock) -> None:
        self.asked = set()
        super().__init__(clock)


def count_looks(is_idle: bool, seconds: float) -> CountedConnection:
    """Look for so long at a connection that answers pings, or that sends something all the time."""
    clock = Clock()
    keepalive, connection = Keepalive(Ticker(clock), INTERVAL, TIMEOUT), CountedConnection(clock)
    keepalive.watch(connection)
    for _ in range(round(seconds * 8)):
        pings = len(connection.pings)
        clock.advance(0.125)
        if not is_idle or len(connection.pings) > pings:
            connection.last_seen, connection.octets = clock.seconds(), 0
    return connection


def test_an_idle_connection_gets_few_looks() -> None:
    connection = count_looks(True, 20 * INTERVAL)
    assert len(connection.pings) >= 15
    # The look that finds the pong, one that is due just before the ping, and the one that pings.
    assert len(connection.asked) <= 3 * len(connection.pings) + 2


def test_a_connection_that_talks_gets_few_looks() -> None:
    connection = count_looks(False, 20 * INTERVAL)
    assert connection.pings == []
    assert len(connection.asked) <= 25


@pytest.mark.parametrize("last", range(0, 50, 3))
def test_silence_is_pinged_in_time_whenever_it_begins(last: int) -> None:
    clock, _, connection = make()
    for _ in range(last):
        pump(clock, 1)
        connection.last_seen = clock.seconds()
    silent_since = connection.last_seen
    pump(clock, 2 * INTERVAL)
    assert INTERVAL <= connection.pings[0] - silent_since <= INTERVAL + INTERVAL / LOOKS + 0.3


def test_what_was_written_without_a_read_is_no_reason_to_be_dropped() -> None:
    clock, _, connection = make()
    pump(clock, INTERVAL / 2)
    connection.octets = 1_000_000
    for _ in range(100):
        pump(clock, 2)
        connection.octets -= 1
    assert connection.given_up is None


def test_a_client_that_takes_answers_after_the_ping_lives() -> None:
    """The pong waits behind the answers."""
    clock, _, connection = make()
    connection.octets = 1_000_000
    pump(clock, INTERVAL + INTERVAL / LOOKS + 0.5)
    assert len(connection.pings) == 1
    connection.octets -= 1000
    pump(clock, TIMEOUT + 1)
    assert connection.given_up is None
    pump(clock, INTERVAL + INTERVAL / LOOKS + TIMEOUT + 1)
    assert connection.given_up is not None


@pytest.mark.parametrize("why", ["is_waiting", "is_paused_by_url"])
def test_a_client_that_is_not_read_is_not_dropped(why: str) -> None:
    clock, _, connection = make()
    setattr(connection, why, True)
    pump(clock, 100)
    assert connection.given_up is None
    assert connection.pings == []


def test_without_a_timeout_silence_is_pinged_again_after_each_interval() -> None:
    clock, keepalive, connection = make(timeout=0)
    # The steps are exact as floats.
    clock.pump([0.125] * round(5.5 * INTERVAL / 0.125))
    assert connection.pings == [INTERVAL * count for count in range(1, 6)]
    assert connection.given_up is None
    keepalive.forget(connection)
    clock.pump([0.125] * round(2 * INTERVAL / 0.125))
    assert len(connection.pings) == 5
    assert not clock.getDelayedCalls()


def test_without_a_timeout_a_pong_is_a_sign_of_life() -> None:
    clock, _, connection = make(timeout=0)
    answer_pings(clock, connection, 300)
    assert len(connection.pings) > 2
    for before, after in pairwise(connection.pings):
        assert INTERVAL <= after - before <= INTERVAL + INTERVAL / LOOKS + 1


def test_without_an_interval_nothing_is_done() -> None:
    clock, _, connection = make(interval=0)
    pump(clock, 60)
    assert connection.pings == []
    assert not clock.getDelayedCalls()


def test_a_forgotten_connection_is_left_alone() -> None:
    clock, keepalive, connection = make()
    pump(clock, 25)
    assert connection.pings
    keepalive.forget(connection)
    pump(clock, 60)
    assert connection.given_up is None

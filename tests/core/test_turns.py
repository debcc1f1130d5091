"""The line: everybody gets a share, nobody gets two in one turn, and a turn ends in time."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.internet.task import Clock

from echod.core.account import Account
from echod.core.turns import SHARE, TURN, Tasks, Turns


class Worker:
    """Has work for a number of shares."""

    def __init__(self, name: str, shares: int) -> None:
        self.name = name
        self.shares = shares


def make(clock: Clock) -> tuple[Turns[Worker], list[str]]:
    done: list[str] = []

    def work(worker: Worker) -> None:
        clock.rightNow += SHARE
        done.append(worker.name)
        worker.shares -= 1
        if worker.shares:
            turns.add(worker)

    turns = Turns(clock, work)
    return turns, done


def turn(clock: Clock) -> None:
    """Let one turn of the reactor pass. New calls wait for the next turn, unlike with the fake clock."""
    (call,) = clock.calls
    clock.calls = []
    call.called = 1
    call.func()


def test_in_line() -> None:
    clock = Clock()
    turns, done = make(clock)
    for name, shares in (("a", 3), ("b", 1), ("c", 2)):
        turns.add(Worker(name, shares))
    assert done == []
    turn(clock)
    assert "".join(done) == "abc"
    turn(clock)
    assert "".join(done) == "abcac"
    turn(clock)
    assert "".join(done) == "abcaca"
    assert not clock.getDelayedCalls()


def test_nobody_has_two_places() -> None:
    """Several events may put one connection in line. With several places it would work for several shares of a turn."""
    clock = Clock()
    turns, done = make(clock)
    a, b = Worker("a", 3), Worker("b", 3)
    for worker in (a, b, a, a):
        turns.add(worker)
    turn(clock)
    assert "".join(done) == "ab"
    turn(clock)
    assert "".join(done) == "abab"


def test_a_turn_has_its_time() -> None:
    clock = Clock()
    turns, done = make(clock)
    for i in range(3 * round(TURN / SHARE)):
        turns.add(Worker(str(i), 1))
    turn(clock)
    assert len(done) <= round(TURN / SHARE) + 1
    while clock.getDelayedCalls():
        turn(clock)
    assert done == [str(i) for i in range(3 * round(TURN / SHARE))]


def test_stop_within_a_turn() -> None:
    """This happens when the last connection of a drain ends in its turn while a lost one stands in line behind it."""
    clock = Clock()
    done: list[str] = []

    def work(name: str) -> None:
        done.append(name)
        turns.stop()

    turns: Turns[str] = Turns(clock, work)
    turns.add("a")
    turns.add("b")
    clock.advance(0)
    assert done == ["a"]
    assert not clock.getDelayedCalls()


def test_stop() -> None:
    clock = Clock()
    turns, done = make(clock)
    turns.stop()
    turns.add(Worker("a", 1))
    turns.stop()
    clock.advance(1)
    assert done == []
    assert not clock.getDelayedCalls()


def test_a_share_has_its_time() -> None:
    clock = Clock()
    turns, _ = make(clock)
    turns.begin()
    assert not turns.is_over
    clock.advance(SHARE)
    assert turns.is_over
    turns.begin()
    assert not turns.is_over


def test_tasks_are_done_in_order_and_step_by_step() -> None:
    account = Account()
    tasks = Tasks(account)
    assert not tasks
    tasks.add(iter([b"a", b"", b"b"]), 3)
    tasks.add(iter([b"c"]), 4)
    assert (bool(tasks), account.tasks) == (True, 7)
    assert [tasks.step() for _ in range(4)] == [b"a", b"", b"b", b""]
    assert account.tasks == 4
    assert [tasks.step() for _ in range(2)] == [b"c", b""]
    assert (bool(tasks), account.tasks) == (False, 0)


def test_a_task_may_leave_all_undone_and_add_another() -> None:
    account = Account()
    tasks = Tasks(account)

    def last_step() -> Iterator[bytes]:
        tasks.clear()
        tasks.add(iter([b"instead"]), 7)
        yield from ()

    tasks.add(last_step(), 1)
    tasks.add(iter([b"never"]), 5)
    assert [tasks.step() for _ in range(3)] == [b"", b"instead", b""]
    assert (bool(tasks), account.tasks) == (False, 0)

"""The budget: up to half of the limit nobody waits; above it, connections that hold more than a share wait, until there
is room again."""

from __future__ import annotations

from twisted.internet.task import Clock

from echod.core.budget import MIN_READ_SIZE, PATIENCE, READ_SIZE, RECOUNT_INTERVAL, WORTH_GIVING_BACK, Budget
from echod.core.deadlines import TICK, Ticker

LIMIT = 1_000_000


class FakeHolder:
    """A connection that holds as much as the test says."""

    def __init__(self) -> None:
        self.held = 0
        self.octets = 0
        self.missing = LIMIT
        self.in_open_state = True
        self.is_backlogged = False
        self.waits = False
        self.read_size = READ_SIZE

    def count_missing(self) -> int:
        return self.missing

    def count(self) -> int:
        return self.octets

    def wait_for_room(self) -> None:
        self.waits = True

    def go_on(self, read_size: int) -> None:
        self.waits = False
        self.read_size = read_size


def make(number: int) -> tuple[Clock, list[FakeHolder], Budget]:
    clock = Clock()
    holders = [FakeHolder() for _ in range(number)]
    return clock, holders, Budget(LIMIT, holders, Ticker(clock))


def hold(budget: Budget, holder: FakeHolder, octets: int) -> None:
    holder.octets = octets
    budget.settle(holder)


def test_below_half_nobody_waits() -> None:
    _, holders, budget = make(3)
    hold(budget, holders[0], LIMIT // 2)
    assert budget.held == LIMIT // 2
    assert not any(holder.waits for holder in holders)
    assert not budget.is_tight


def test_above_half_who_holds_more_than_a_share_waits_and_the_others_are_read_in_shares() -> None:
    _, (greedy, modest, idle), budget = make(3)
    greedy.is_backlogged = True
    hold(budget, modest, 100)
    hold(budget, greedy, LIMIT // 2)
    assert budget.is_tight
    assert (greedy.waits, modest.waits, idle.waits) == (True, False, False)
    assert idle.read_size == min(READ_SIZE, LIMIT // 8 // 3)
    hold(budget, modest, LIMIT // 8 // 3 + 1)
    assert modest.waits
    hold(budget, modest, 0)
    assert not modest.waits


def test_a_count_that_is_out_of_date_makes_nobody_wait() -> None:
    _, holders, budget = make(10)
    for holder in holders[:5]:
        hold(budget, holder, LIMIT // 10)
    for holder in holders[:5]:
        holder.octets = 0
    hold(budget, holders[5], 10)
    assert budget.held == 10
    assert not budget.is_tight


def test_the_sum_stays_under_the_limit_whatever_all_do() -> None:
    _, holders, budget = make(100)
    for holder in holders:
        holder.is_backlogged = True
    progress = True
    while progress:
        progress = False
        for holder in holders:
            if not holder.waits:
                hold(budget, holder, holder.octets + holder.read_size)
                progress = True
    assert LIMIT // 2 < sum(holder.octets for holder in holders) <= LIMIT


MESSAGE = LIMIT // 10


def fill(clock: Clock, holders: list[FakeHolder], budget: Budget) -> None:
    """Let all send messages that don't fit together, until room is tight."""
    while not budget.is_tight:
        for holder in holders:
            holder.missing = MESSAGE - holder.octets - 1000
            hold(budget, holder, holder.octets + 1000)
    clock.advance(RECOUNT_INTERVAL)


def test_all_come_to_their_turn_when_each_holds_a_part_of_its_message() -> None:
    clock, holders, budget = make(50)
    fill(clock, holders, budget)
    most = budget.held
    for _ in range(100):
        for holder in holders:
            if holder.octets and not holder.waits:
                hold(budget, holder, min(MESSAGE, holder.octets + holder.read_size))
                holder.missing = MESSAGE - holder.octets
            most = max(most, budget.held)
            if holder.octets == MESSAGE:  # the message is complete, and its echo is sent
                hold(budget, holder, 0)
        clock.advance(RECOUNT_INTERVAL)
    assert [holder.octets for holder in holders] == [0] * 50
    assert most <= LIMIT


def test_a_turn_without_progress_is_lost() -> None:
    clock, holders, budget = make(50)
    fill(clock, holders, budget)
    first = [holder for holder in holders if not holder.waits]
    assert 0 < len(first) < 50
    for _ in range(PATIENCE + 1):
        clock.advance(RECOUNT_INTERVAL)
    second = [holder for holder in holders if not holder.waits]
    assert second
    assert not set(first) & set(second)
    budget.release(second[0])
    budget.release(first[0])
    assert budget.held == sum(holder.held for holder in holders)


def test_a_turn_ends_with_what_was_missing() -> None:
    clock, holders, budget = make(50)
    fill(clock, holders, budget)
    first = next(holder for holder in holders if not holder.waits)
    hold(budget, first, first.octets + first.missing)
    assert not first.waits
    hold(budget, first, first.octets + 1)
    assert first.waits
    clock.advance(RECOUNT_INTERVAL)
    assert first.waits


def test_there_is_always_room_for_one() -> None:
    clock, holders, budget = make(2)
    for holder in holders:
        holder.missing = LIMIT // 6
        hold(budget, holder, LIMIT // 3)
    clock.advance(RECOUNT_INTERVAL)
    assert sorted(holder.waits for holder in holders) == [False, True]


def test_nobody_has_a_turn_that_would_exceed_the_limit() -> None:
    """Connections whose clients read nothing keep what they hold, and one after the other would get a turn."""
    clock, holders, budget = make(3)
    for holder in holders[:2]:
        hold(budget, holder, LIMIT * 2 // 5)
        holder.is_backlogged = True
    holders[2].missing = LIMIT // 5
    hold(budget, holders[2], LIMIT // 20)
    clock.advance(RECOUNT_INTERVAL)
    assert [holder.waits for holder in holders] == [True, True, True]
    holders[2].missing = LIMIT // 10
    clock.advance(RECOUNT_INTERVAL)
    assert [holder.waits for holder in holders] == [True, True, False]


def test_a_turn_is_nothing_for_who_has_no_message_to_finish() -> None:
    _, holders, budget = make(3)
    holders[0].in_open_state = False
    holders[0].missing = 0
    holders[1].missing = holders[2].missing = LIMIT // 4
    for holder in holders:
        hold(budget, holder, LIMIT // 4)
    assert [holder.waits for holder in holders] == [True, False, True]


def test_when_there_is_room_again_all_go_on_in_full() -> None:
    clock, holders, budget = make(2)
    holders[0].is_backlogged = True
    hold(budget, holders[0], LIMIT)
    clock.advance(RECOUNT_INTERVAL)
    assert holders[0].waits
    holders[0].octets = 0
    clock.pump([RECOUNT_INTERVAL / 2] * 4)
    assert not budget.is_tight
    assert [holder.read_size for holder in holders] == [READ_SIZE, READ_SIZE]
    assert not holders[0].waits
    clock.pump([RECOUNT_INTERVAL] * 2)
    assert not clock.getDelayedCalls()


def test_what_a_lost_connection_held_is_free() -> None:
    _, holders, budget = make(2)
    hold(budget, holders[0], 500)
    budget.release(holders[0])
    budget.release(holders[1])
    assert budget.held == 0


def test_a_share_is_never_too_small_to_read() -> None:
    _, holders, budget = make(2_000)
    hold(budget, holders[0], LIMIT)
    assert holders[1].read_size == MIN_READ_SIZE


def test_memory_is_given_back_soon_after_much_was_let_go() -> None:
    """Room need not have been tight: what the C library keeps is in nobody's account."""
    clock, calls = Clock(), []
    holders = [FakeHolder() for _ in range(2)]
    budget = Budget(16 * WORTH_GIVING_BACK, holders, Ticker(clock), give_back=lambda: calls.append(clock.seconds()))

    def pass_time() -> None:
        for _ in range(10):
            clock.advance(TICK)

    hold(budget, holders[0], WORTH_GIVING_BACK - 1)
    budget.release(holders[0])
    pass_time()
    assert not calls, "too little was let go"
    hold(budget, holders[0], WORTH_GIVING_BACK)
    hold(budget, holders[1], WORTH_GIVING_BACK)
    pass_time()
    assert not calls, "all of it is held"
    budget.release(holders[0])
    hold(budget, holders[1], 0)
    assert not calls, "the memory is let go only after this call"
    pass_time()
    assert len(calls) == 1, "once for both"
    budget.note_leased(2 * WORTH_GIVING_BACK)
    budget.note_leased(0)
    pass_time()
    assert len(calls) == 2
    pass_time()
    assert len(calls) == 2
    assert not clock.getDelayedCalls()


def test_memory_that_a_recount_has_given_back_is_not_given_back_again() -> None:
    clock, calls = Clock(), []
    holders = [FakeHolder() for _ in range(2)]
    budget = Budget(3 * WORTH_GIVING_BACK, holders, Ticker(clock), give_back=lambda: calls.append(clock.seconds()))
    hold(budget, holders[0], 2 * WORTH_GIVING_BACK)
    assert calls == [0], "room is tight"
    hold(budget, holders[0], 0)  # the recount of that time comes first, and room is not tight any more
    for _ in range(10):
        clock.advance(TICK)
    assert len(calls) == 2
    assert not clock.getDelayedCalls()

"""What a client may do often, and no more often."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.http.h2 import frames
from echod.http.h2.flood import Allowance, FloodError, FloodWatch
from echod.http.h2.frames import Frame
from echod.settings import Settings


def test_it_may_be_used_up_at_once_and_comes_back_evenly() -> None:
    allowance = Allowance({"pings": 10}, 5.0)
    assert all(allowance.use("pings", 100.0) for _ in range(10))
    assert not allowance.use("pings", 100.0)
    assert [allowance.use("pings", 101.0) for _ in range(3)] == [True, True, False]
    assert all(allowance.use("pings", 1000.0) for _ in range(10))
    assert not allowance.use("pings", 1000.0)


def test_each_kind_has_its_own() -> None:
    allowance = Allowance({"pings": 1, "resets": 1}, 5.0)
    assert allowance.use("pings", 0.0)
    assert allowance.use("resets", 0.0)
    assert not allowance.use("pings", 0.0)


def frame(kind: int, size: int = 0, flags: int = 0) -> Frame:
    """Return a frame on stream 1 with a payload of this size."""
    return Frame(kind, flags, 1, bytes(frames.HEADER_SIZE + size))


def test_the_size_of_a_header_block_that_is_not_complete() -> None:
    watch = FloodWatch(Settings(), Clock())
    sizes = []
    for kind, flags in ((frames.HEADERS, 0), (frames.CONTINUATION, 0), (frames.CONTINUATION, frames.END_HEADERS)):
        watch.check(frame(kind, 100, flags), is_open=False, is_late=False)
        sizes.append(watch.block_size)
    assert sizes == [100, 200, 0]


@pytest.mark.parametrize(("is_open", "why"), [(True, "too many resets"), (False, "too many frames without effect")])
def test_a_reset_counts_for_what_it_does(is_open: bool, why: str) -> None:
    watch = FloodWatch(Settings(max_resets=1, max_priorities=1), Clock())
    reset = frame(frames.RST_STREAM, 4)
    watch.check(reset, is_open=is_open, is_late=not is_open)
    watch.check(reset, is_open=not is_open, is_late=is_open)
    with pytest.raises(FloodError, match=f"^{why}$"):
        watch.check(reset, is_open=is_open, is_late=not is_open)

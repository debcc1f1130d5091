"""The lag of the event loop, with a clock that is late."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.lag import INTERVAL, LagMeter


def test_each_call_is_held_against_its_time() -> None:
    clock = Clock()
    lags: list[float] = []
    meter = LagMeter(clock, lags.append)
    meter.stop()
    meter.start()
    clock.advance(INTERVAL)
    clock.advance(INTERVAL + 0.25)
    clock.advance(INTERVAL)
    assert lags == [0, pytest.approx(0.25), 0]
    meter.stop()
    assert not clock.getDelayedCalls()

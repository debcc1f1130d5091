"""The reactor's monotonic clock: which clock Twisted uses today, and what happens to calls that already wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet import base, epollreactor, pollreactor, selectreactor

from echod.upstream.clock import make_monotonic


@pytest.fixture(params=[epollreactor.EPollReactor, pollreactor.PollReactor, selectreactor.SelectReactor])
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a reactor that is not the reactor of this process."""
    made = request.param()
    yield made
    for reader in made.removeAll():
        reader.connectionLost(None)


def test_without_it_the_seconds_are_the_wall_clocks() -> None:
    """This is twisted#2424. When this test fails, echod no longer needs its own clock."""
    assert base.ReactorBase.seconds is time.time


def test_calls_that_wait_keep_their_time(reactor: Any) -> None:
    done: list[str] = []
    reactor.callLater(1000, done.append, "late")
    cancelled = reactor.callLater(0, done.append, "never")
    reactor.timeout()  # moves the calls into the reactor's heap
    later = reactor.callLater(2000, done.append, "later")
    cancelled.cancel()
    make_monotonic(reactor)
    later.reset(0)
    reactor.callLater(0, done.append, "now")
    reactor.runUntilCurrent()
    assert sorted(done) == ["later", "now"]
    assert 990 < reactor.timeout() <= 1000


def test_twice_is_once(reactor: Any) -> None:
    call = reactor.callLater(1000, bool)
    make_monotonic(reactor)
    make_monotonic(reactor)
    assert 990 < call.getTime() - time.monotonic() <= 1000

"""One process of a worker: the messages to it, and how its end is reported."""

from __future__ import annotations

import pytest
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.python.failure import Failure

from echod.run.workers import link
from echod.run.workers.child import describe_end
from tests.run.workers.played import Started


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (ProcessDone(0), "ended"),
        (ProcessTerminated(3), "ended with exit status 3"),
        (ProcessTerminated(None, 9), "was killed by SIGKILL"),
    ],
)
def test_how_a_process_ended(end: Exception, told: str) -> None:
    assert describe_end(Failure(end)) == told


def test_a_worker_that_has_closed_its_pipes_gets_no_message(started: Started) -> None:
    process = started.processes[0]
    process.serve()
    process.protocol.childConnectionLost(link.FROM_PARENT)
    started.reactor.advance(1)
    started.service._abort()
    assert process.heard == process.asked == []
    for _ in range(10):
        started.reactor.advance(1)
    assert process.signals == ["KILL"]

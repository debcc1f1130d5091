"""One process of a worker, as its parent sees it: the link to it, its state, and its end.

Knows the process and its pipes. Must never know which process comes after it, or why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.error import ProcessExitedAlready, ProcessTerminated
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from echod.run import signals
from echod.run.workers import link
from echod.run.workers.link import Link
from echod.web.metrics.values import AllValues


class Process(ProcessProtocol):
    """One process of a worker."""

    transport: Any

    def __init__(self, hear: Callable[[str, Any], object], ended: Callable[[Process, Failure], object]) -> None:
        """`hear` takes what the process tells by itself; `ended` is called once, after the last message."""
        self._ended = ended
        self.pid = 0
        self.link = Link(hear, lambda *_: None)
        self.is_serving = False
        self.is_leaving = False
        """Whether it has stopped accepting."""
        self.covers: list[int] = []
        """The indices of the workers whose sockets it serves in addition to its own."""
        self.has_to_reload = False
        """Whether the certificates may have changed since it read them at its start."""
        self.since = 0.0
        """The time when it began to serve; before that, the time of its start."""
        self.silences = 0
        """The number of pulses since its last answer."""
        self.has_pulse = True
        """Whether it has answered the last pulse."""
        self.is_killed = False
        self.refusal = ""
        """Why it can't start, in its own words."""
        self.limit = 0
        """The number of connections that it may have."""
        self.open = 0
        self.counts: AllValues = {}
        """What it had counted by its last answer."""

    def connectionMade(self) -> None:
        """Connect the link."""
        self.pid = self.transport.pid  # Twisted forgets it at the end
        transport: Any = self
        self.link.makeConnection(transport)

    def write(self, octets: bytes) -> None:
        """Write for the link, whose transport this is."""
        self.transport.writeToChild(link.FROM_PARENT, octets)

    def loseConnection(self) -> None:
        """Kill the process: the link calls this after a message that is too long."""
        self.kill()

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: ARG002  # there is one pipe to read
        """Take data from the pipe."""
        self.link.dataReceived(data)

    def childConnectionLost(self, childFD: int) -> None:  # noqa: ARG002  # one pipe is of no use without the other
        """Send nothing more: Twisted drops the pipes of a dying process before it reports the end."""
        self.link.connectionLost()

    def kill(self) -> None:
        """End the process without asking it."""
        self.is_killed = True
        self._signal("KILL")

    def stop(self) -> None:
        """Let the process drain.

        A process that does not serve yet would read an order from the link only after its start, so SIGTERM ends it.
        """
        if self.is_serving:
            self.link.tell("drain")
        else:
            self._signal("TERM")

    def _signal(self, name: str) -> None:
        with suppress(ProcessExitedAlready):
            self.transport.signalProcess(name)

    def processEnded(self, reason: Failure) -> None:
        """Note the end of the process; everything that it said has been read."""
        self.link.connectionLost(reason)
        self._ended(self, reason)


def describe_end(reason: Failure) -> str:
    """Return how a process ended."""
    error = reason.value
    if not isinstance(error, ProcessTerminated):
        return "ended"
    if error.signal is not None:
        return f"was killed by {signals.describe(error.signal)}"
    return f"ended with exit status {error.exitCode}"

"""The daemon as the admin site sees it: in this process, or in worker processes, which take a moment to answer.

Knows what can be asked. Must never know how an answer is shown.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from echod.settings import Settings
from echod.web.connections import describe
from echod.web.metrics.collect import read_all
from echod.web.metrics.values import AllValues
from echod.websocket.factory import EchoFactory, State


class Source(Protocol):
    """What the admin site asks: a `Local`, or with `--workers` the `Totals` of the parent."""

    settings: Settings

    @property
    def state(self) -> State:
        """Whether the daemon starts, serves or drains."""

    def processes(self) -> dict[str, int]:
        """Return the process ids of the running workers, by their numbers."""

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of every metric."""

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return the number of live connections, and `size` of them from `start` on, as `connections.describe` tells
        each. The oldest comes first."""

    def newest(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """Return the `count` newest connections, the newest first."""

    def traced(self, number: str) -> Deferred[dict[str, Any] | None]:
        """Return what is told of the traced connection `number`, with its last `frames`; None: there is none."""


class Local:
    """A daemon in this process. It answers at once."""

    def __init__(self, factory: EchoFactory) -> None:
        self._factory = factory
        self.settings = factory.settings

    @property
    def state(self) -> State:
        """Whether the daemon starts, serves or drains."""
        return self._factory.state

    def processes(self) -> dict[str, int]:
        """Return nothing: there are no workers."""
        return {}

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of every metric."""
        return succeed(read_all(self._factory))

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return the number of live connections, and a part of the list."""
        return succeed((self._factory.count, part(self._factory, start, size)))

    def newest(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """Return the newest connections."""
        return succeed(newest(self._factory, count))

    def traced(self, number: str) -> Deferred[dict[str, Any] | None]:
        """Return what is told of a traced connection."""
        return succeed(traced(self._factory, number))


def part(factory: EchoFactory, start: int, size: int) -> list[dict[str, Any]]:
    """Return what is told of `size` connections from `start` on. The oldest comes first."""
    now = factory.clock.seconds()
    return [describe(connection, now) for connection in factory.snapshots(start, size)]


def newest(factory: EchoFactory, count: int) -> list[dict[str, Any]]:
    """Return what is told of the `count` newest connections, the newest first."""
    now = factory.clock.seconds()
    return [describe(connection, now) for connection in factory.newest(count)]


def traced(factory: EchoFactory, number: str) -> dict[str, Any] | None:
    """Return what is told of the traced connection `number`, with its last `frames`; None: there is none."""
    connection = None if factory.tracing is None else factory.tracing.live.get(number)
    if connection is None:
        return None
    return {**describe(connection.snapshot(), factory.clock.seconds()), "frames": connection.last_frames()}

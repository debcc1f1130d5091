"""Whom the admin site asks: the daemon in this process, or its workers (`workers.Supervisor`), who take a moment to
answer.

Knows what there is to ask. Must never know how it is shown.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed

from echod.settings import Settings
from echod.web import metrics
from echod.web.connections import describe
from echod.web.metrics import AllValues
from echod.websocket.factory import EchoFactory, State


class Source(Protocol):
    """What the pages need to know."""

    settings: Settings

    @property
    def state(self) -> State:
        """What the daemon is about."""

    def processes(self) -> dict[str, int]:
        """Return the process ids of the workers that there are, by their numbers."""

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of every metric."""

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return how many live connections there are, and a part of the list, as `connections.describe` tells of
        each."""

    def newest(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """Return the connections that were accepted last, the last first."""


class Local:
    """A daemon in this process, which answers at once."""

    def __init__(self, factory: EchoFactory) -> None:
        self._factory = factory
        self.settings = factory.settings

    @property
    def state(self) -> State:
        """What the daemon is about."""
        return self._factory.state

    def processes(self) -> dict[str, int]:
        """Return no workers."""
        return {}

    def values(self) -> Deferred[AllValues]:
        """Return the numbers of every metric."""
        return succeed(metrics.read_all(self._factory))

    def connections(self, start: int, size: int) -> Deferred[tuple[int, list[dict[str, Any]]]]:
        """Return how many there are and a part of them; those first that were accepted first."""
        return succeed((len(self._factory.live), part(self._factory, start, size)))

    def newest(self, count: int) -> Deferred[list[dict[str, Any]]]:
        """Return the connections that were accepted last."""
        return succeed(newest(self._factory, count))


def part(factory: EchoFactory, start: int, size: int) -> list[dict[str, Any]]:
    """Return what there is to tell of `size` connections, in the order in which they were accepted, from `start` on."""
    now = factory.clock.seconds()
    return [describe(connection, now) for connection in islice(factory.live, start, start + size)]


def newest(factory: EchoFactory, count: int) -> list[dict[str, Any]]:
    """Return what there is to tell of the `count` connections that were accepted last, the last first."""
    now = factory.clock.seconds()
    return [describe(connection, now) for connection in islice(reversed(factory.live), count)]

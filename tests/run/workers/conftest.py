"""Fixtures: a parent whose workers the test plays, and the parent's end of a worker's pipes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.run.workers.pipes import Pipes
from tests.run.workers.played import Started


@pytest.fixture
def started() -> Iterator[Started]:
    started = Started()
    yield started
    if started.service.running:
        started.stop()


@pytest.fixture
def pipes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipes]:
    pipes = Pipes(monkeypatch)
    yield pipes
    pipes.close_all()

"""Fixtures: fake time, and a peer whose connection is open."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from tests.fakes import Peer
from tests.websocket.peers import opened


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def peer(clock: Clock) -> Peer:
    return opened(clock)

"""Fixtures of the express lane's tests: a link over each kind of transport whose socket can be leased."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from echod.websocket.factory import EchoFactory
from tests.fakes import make_factory
from tests.lane.links import secure_link
from tests.loop import Bed, Link
from tests.tls import Certificate


@pytest.fixture
def bare() -> EchoFactory:
    """Return a factory without the lane."""
    return make_factory(ping_interval=0)


@pytest.fixture(params=["plain", "TLSv1_2", "TLSv1_3"])
def dial(request: pytest.FixtureRequest, certificate: Certificate) -> Callable[[Bed], Link]:
    """Return a function that makes a link over a kind of transport whose socket can be leased."""
    return (
        Bed.link if request.param == "plain" else partial(secure_link, certificate=certificate, version=request.param)
    )


@pytest.fixture
def link(lane_bed: Bed, dial: Callable[[Bed], Link]) -> Link:
    return dial(lane_bed)

"""A fixture that several of these test files use."""

from __future__ import annotations

import pytest

from tests.interop.clients import CLIENTS, Client
from tests.tools import give_up


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """Return the client that a test names, or skip the test if that client is not installed."""
    client = CLIENTS[request.param]
    missing = client.missing()
    if missing is not None:
        give_up(missing)
    return client

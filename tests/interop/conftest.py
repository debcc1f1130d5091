"""What several of these test files use."""

from __future__ import annotations

import pytest

from tests.interop.clients import CLIENTS, Client
from tests.tools import give_up


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """The client that a test names, if it is here."""
    client = CLIENTS[request.param]
    missing = client.missing()
    if missing is not None:
        give_up(missing)
    return client

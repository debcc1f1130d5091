"""Fixtures that several of these test files use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.interop.clients import CLIENTS, Client
from tests.interop.visitors.programs import Command, of_go, of_the_suite
from tests.tools import give_up


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Client:
    """Return the client that a test names, or skip the test if that client is not installed."""
    client = CLIENTS[request.param]
    missing = client.missing()
    if missing is not None:
        give_up(missing)
    return client


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    """Return how the clients are started that visit faults in the test suite: packages that it has in any case, and
    those for Go if they are here."""
    if (missing := CLIENTS["ws"].missing()) is not None:
        give_up(missing)
    found = of_the_suite(Path(sys.executable))
    names = ("websockets", "aiohttp", "autobahn", "pycurl", "ws", "undici")
    chosen = {name: found[name] for name in names if name in found}
    for name, command, how in of_go(tmp_path_factory.mktemp("go")):
        if command is not None:
            chosen[name] = command
        elif os.environ.get("ECHOD_TEST_REQUIRE") == "all":
            give_up(f"no {name}: {how}")
    return chosen

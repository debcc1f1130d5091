"""The pytest plugin: a daemon for the session, and what clients sent it in a test.

pytest loads this file in each run where echod is installed, also if no test uses it. So it imports nothing that pytest
has not loaded, until a fixture needs it.

Knows pytest's fixtures. Must never know how a daemon is started.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from echod.testing import Server, Trace


@pytest.fixture(scope="session")
def echod_options() -> Sequence[str]:
    """Return the options of `echod serve` for `echod_server`. Override this fixture to give some."""
    return ()


@pytest.fixture(scope="session")
def echod_server(echod_options: Sequence[str]) -> Iterator[Server]:
    """Run a WebSocket echo daemon for the session: connect to its `url`, or to its `tls_url` with its `authority`."""
    from echod.testing import Server  # noqa: PLC0415

    with Server(*echod_options) as server:
        yield server


@pytest.fixture
def echod_trace(echod_server: Server) -> Trace:
    """Return the trace of this test: call it to get what each client sent, frame by frame."""
    return echod_server.new_trace()

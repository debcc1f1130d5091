"""Fixtures of more than one file; and no test may leave a delayed call behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor

from tests.tls import Certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for `localhost`."""
    return Certificate(Path(tmp_path_factory.mktemp("tls")) / "localhost.pem")


@pytest.fixture(autouse=True)
def _no_delayed_calls_are_left() -> Iterator[None]:
    yield
    clock: Any = reactor
    # pytest-twisted leaves one of its own while a test that it ran is torn down.
    left = [call for call in clock.getDelayedCalls() if "_run_inline_callbacks" not in str(call)]
    assert not left

"""Fixtures of more than one file; and no test may leave a delayed call behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.application.reactors import installReactor

from tests.daemon import REACTOR_VARIABLE
from tests.tls import Certificate

if REACTOR_VARIABLE in os.environ:
    # Before anything else has one installed, and pytest-twisted takes what is there.
    installReactor(os.environ[REACTOR_VARIABLE])

from twisted.internet import reactor


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

"""Fixtures that several files use, and a check that no test leaves a delayed call behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_twisted
from twisted.internet import default
from twisted.logger import globalLogPublisher

from tests.tls import Certificate

# The reactor of the tests' own process. The reactor of the daemons is chosen elsewhere, because asyncio clients can't
# run in a process whose reactor runs on asyncio, too.
match os.environ.get("ECHOD_TEST_OWN_REACTOR"):
    case None:
        pass
    case "asyncio":
        # pytest-twisted has an option for the asyncio reactor only.
        pytest_twisted.reactor_installers["default"] = pytest_twisted.reactor_installers["asyncio"]
        import_module("twisted.internet.asyncioreactor").install()
    case name:
        default.install = import_module(f"twisted.internet.{name}reactor").install

from twisted.internet import reactor

from echod.lane.native import Native
from echod.upstream.clock import make_monotonic
from tests.loop import DEADLINE, Bed, Loop, bed, needed_native

# By default Hypothesis fails an example that takes over 200 ms. Any example does when a busy machine stalls for so
# long. In CI it draws the same examples each time, so that an old fault does not fail a new commit by luck.
hypothesis.settings.register_profile("tests", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("tests")

# Change the clock here, before the reactor runs. Otherwise a service that a test makes would change the clock within a
# turn of the reactor. The asyncio reactor would then compare new calls with the old clock's time, find them due, and
# never end the turn.
make_monotonic(reactor)

# A shell makes its background jobs ignore SIGINT, and nohup makes its command ignore SIGHUP. Child processes inherit
# this, so the daemons would ignore both signals, and the tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Make pytest's summary show each reason for a skip once, with the number of tests that were skipped for it.

    pytest itself folds only skips that happen on the same line of code.
    """
    for report in terminalreporter.stats.get("skipped", ()):
        _, _, reason = report.longrepr
        report.longrepr = (report.nodeid.partition("/")[0], None, reason)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Return a certificate for `localhost`."""
    return Certificate(Path(tmp_path_factory.mktemp("tls")) / "localhost.pem")


@pytest.fixture(scope="session")
def native() -> Native:
    """Return the compiled module."""
    return needed_native()


@pytest.fixture
def lane_bed(native: Native) -> Iterator[Bed]:
    """Make a factory with the express lane and without pings."""
    with bed(native, ping_interval=0) as made:
        yield made


@pytest.fixture(autouse=True)
def _patience() -> None:
    Loop.patience = DEADLINE


@pytest.fixture(autouse=True)
def _no_delayed_calls_are_left() -> Iterator[None]:
    yield
    clock: Any = reactor
    # pytest-twisted leaves one call of its own while it tears a test down.
    left = [call for call in clock.getDelayedCalls() if "_run_inline_callbacks" not in str(call)]
    assert not left


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """Everything that is logged, as formatted."""
    found: list[str] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_format"):
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    yield found
    globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]

"""Fixtures of more than one file; and no test may leave a delayed call behind."""

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

from tests.tls import Certificate

# The reactor of this process; that of the daemons is another matter, as clients on asyncio can't run within a reactor
# that does, too.
match os.environ.get("ECHOD_TEST_OWN_REACTOR"):
    case None:
        pass
    case "asyncio":
        # pytest-twisted has an option for this one alone.
        pytest_twisted.reactor_installers["default"] = pytest_twisted.reactor_installers["asyncio"]
        import_module("twisted.internet.asyncioreactor").install()
    case name:
        default.install = import_module(f"twisted.internet.{name}reactor").install

from twisted.internet import reactor

from echod.lane.native import Native
from echod.upstream.clock import make_monotonic
from tests.loop import DEADLINE, Bed, Loop, bed, needed_native

# Hypothesis fails what takes an example more than 200 ms, as each does where the machine stands still for so long.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")

# Here, before the reactor runs: a service that a test makes would otherwise change the clock within a turn of the
# reactor. The asyncio reactor then compares new calls with the old clock's time, finds them due, and never ends the
# turn.
make_monotonic(reactor)

# A shell has its background jobs ignore SIGINT, and nohup has its command ignore SIGHUP. What they start ignores these,
# too, and so would daemons; the tests send both.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Have pytest's summary tell each reason for a skip in one line, however many tests have it: it folds what is
    skipped at one place."""
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
    """Make a factory with the express lane, and without pings."""
    with bed(native, ping_interval=0) as made:
        yield made


@pytest.fixture(autouse=True)
def _patience() -> None:
    Loop.patience = DEADLINE


@pytest.fixture(autouse=True)
def _no_delayed_calls_are_left() -> Iterator[None]:
    yield
    clock: Any = reactor
    # pytest-twisted leaves one of its own while a test that it ran is torn down.
    left = [call for call in clock.getDelayedCalls() if "_run_inline_callbacks" not in str(call)]
    assert not left

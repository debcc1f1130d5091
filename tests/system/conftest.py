"""When the system suite runs, and the systems with a real systemd for some of its tests.

The suite builds and boots a Debian, starts proxies and runs scans, which takes minutes. So a plain `pytest` leaves it
out. It runs if this folder, or something in it, is named on the command line, as `make system` does.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.selection import is_named
from tests.system import nspawn
from tests.system.install import install
from tests.tools import give_up

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the suite out of a plain run."""
    return True if collection_path.name.startswith("test_") and not is_named(config, _HERE) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of the system's journal for a failed test."""
    report = yield
    system = getattr(item, "funcargs", {}).get("system")
    if report.when == "call" and report.failed and isinstance(system, nspawn.System):
        journal = system.run("journalctl", "--no-pager", "--lines=60", is_checked=False)
        report.sections.append(("journal of the system", journal.stdout))
    return report


@pytest.fixture(scope="session")
def bare() -> Path:
    """Return the root folder of a Debian, which must not be changed."""
    if why := nspawn.missing():
        give_up(why)
    return nspawn.base()


@pytest.fixture(scope="session")
def installed(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the root folder of a Debian with echod installed as docs/operating.md says."""
    with nspawn.copy(bare, tmp_path_factory.mktemp("system")) as root:
        install(root, tmp_path_factory.mktemp("wheels"))
        yield root


@pytest.fixture
def system(installed: Path) -> Iterator[nspawn.System]:
    """Return a Debian that has just started, with echod installed but not running. Changes to it are lost at the
    end."""
    with nspawn.System(installed) as system:
        yield system

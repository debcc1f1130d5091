"""When the reliability suite runs, in which of its two forms, and how it reports a figure.

The suite loads the machine for minutes. So a plain `pytest` runs only `test_advisories.py` and `test_garbage.py` of it.
The rest runs if this folder, or something in it, is named on the command line: `pytest tests/reliability` runs the
short form, `--soak` (or ECHOD_SOAK=1) the full one.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.selection import is_named

QUICK = ("test_advisories.py", "test_garbage.py")
MOST_DESCRIPTORS = 2**15
_HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--soak`. pytest knows the option only if this folder is named on the command line."""
    parser.addoption(
        "--soak", action="store_true", help="run the reliability suite with the full numbers (many minutes)"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the long tests out of a plain run."""
    is_long = collection_path.name.startswith("test_") and collection_path.name not in QUICK
    return True if is_long and not is_named(config, _HERE) else None


@dataclass(frozen=True)
class Form:
    """The form of the suite that runs."""

    is_full: bool

    def pick(self, full: int, short: int) -> int:
        """Return the number for this form."""
        return full if self.is_full else short


@pytest.fixture(scope="session")
def form(pytestconfig: pytest.Config) -> Form:
    """Return the form that was asked for."""
    return Form(
        bool(pytestconfig.getoption("--soak", default=False)) or os.environ.get("ECHOD_SOAK", "") not in ("", "0")
    )


@pytest.fixture(scope="session", autouse=True)
def _enough_descriptors() -> None:
    """Raise this process's limit on descriptors. A shell's 1,024 are too few for the clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, MOST_DESCRIPTORS)), hard))


Figure = Callable[..., None]


@pytest.fixture
def figure(pytestconfig: pytest.Config) -> Figure:
    """Return a function that prints a figure and its limit on one line, past pytest's capture, and asserts that the
    figure keeps within the limit."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def tell(name: str, value: float, limit: float, unit: str = "") -> None:
        line = f"{name}: {value:.4g} {unit}".rstrip() + f" (limit {limit:g})"
        with capture.global_and_fixture_disabled():
            print(f"\n  {line}", end="", flush=True)
        assert value <= limit, line

    return tell

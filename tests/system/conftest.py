"""When the system suite runs: where this folder, or something in it, is named on the command line. It takes other programs, and minutes."""

from __future__ import annotations

from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave it out of a plain run."""
    return True if collection_path.name.startswith("test_") and not _is_named(config) else None


def _is_named(config: pytest.Config) -> bool:
    names = [Path(config.invocation_params.dir, str(arg).partition("::")[0]).resolve() for arg in config.invocation_params.args]
    return any(name.exists() and name.is_relative_to(_HERE) for name in names)

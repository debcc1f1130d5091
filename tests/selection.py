"""Tells which long suites pytest was asked to run: those with a folder, or something in it, named on the command
line."""

from __future__ import annotations

from pathlib import Path

import pytest


def is_named(config: pytest.Config, folder: Path) -> bool:
    """Tell whether `folder`, or something in it, was named on the command line."""
    # Values of options name no path in the folder. A node id is a path up to its `::`.
    names = [
        Path(config.invocation_params.dir, str(arg).partition("::")[0]).resolve()
        for arg in config.invocation_params.args
    ]
    return any(name.exists() and name.is_relative_to(folder) for name in names)

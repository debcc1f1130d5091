"""Which of the long suites a run of pytest is asked for: those whose folder, or something in it, is named on the
command line."""

from __future__ import annotations

from pathlib import Path

import pytest


def is_named(config: pytest.Config, folder: Path) -> bool:
    """Tell whether `folder`, or something in it, was named."""
    # Arguments that are an option's value or a node id name no path in here, or the path before the `::`.
    names = [
        Path(config.invocation_params.dir, str(arg).partition("::")[0]).resolve()
        for arg in config.invocation_params.args
    ]
    return any(name.exists() and name.is_relative_to(folder) for name in names)

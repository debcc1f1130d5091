"""Programs that a test may need and a machine may lack."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(program: str, package: str) -> str:
    """Return the path of `program`; missing, the test is skipped, or fails where no tool may be missing."""
    path = shutil.which(program)
    if path is None:
        reason = f"no {program}; apt-get install {package}"
        (pytest.fail if os.environ.get("ECHOD_TEST_REQUIRE") == "all" else pytest.skip)(reason)
    return path

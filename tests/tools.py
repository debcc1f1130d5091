"""What a test needs and a machine may lack: without it the test is skipped, or fails where nothing may be missing.

Knows programs and the environment variable that has a say in it. Must never import echod: what looks at it from outside
uses this, too.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def give_up(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing; `reason` is one line, and says how to get what is
    missing."""
    if os.environ.get("ECHOD_TEST_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)


def needed(program: str, package: str | None = None) -> str:
    """Return the path of `program`, which may be an administrator's, or give up; `package` is Debian's, if it has
    another name."""
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    return path or give_up(f"no {program}: apt-get install --no-install-recommends {package or program}")

"""Handles tools that a machine may lack: a test that needs one is skipped, or fails if nothing may be missing.

Knows programs, the limit on open files, and the environment variable that forbids missing tools. Must never import
echod, because suites that test echod from outside use this module.
"""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import pytest


def give_up(reason: str) -> NoReturn:
    """Skip the test, or fail it if nothing may be missing. `reason` is one line that says how to get the missing
    tool."""
    if os.environ.get("ECHOD_TEST_REQUIRE") == "all":
        pytest.fail(reason)
    pytest.skip(reason)


def needed(program: str, package: str | None = None) -> str:
    """Return the path of `program`, also from an administrator's folders, or give up. `package` is its Debian package
    if the name differs."""
    return find_program(program) or give_up(how_to_get(program, package))


def find_program(program: str) -> str | None:
    """Return the path of `program`, also from an administrator's folders."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def how_to_get(program: str, package: str | None = None) -> str:
    """Return one line that says that `program` is missing, and how to get it."""
    return f"no {program}: apt-get install --no-install-recommends {package or program}"


@contextmanager
def open_files(wanted: int) -> Iterator[None]:
    """Let this process have so many open files meanwhile, or give up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < wanted:
        give_up(f"the limit on open files is too small: ulimit -Hn {wanted}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

"""The tests under other Pythons, other reactors, and the oldest and newest Autobahn and Twisted: `nox`, or `make compatibility`.

Knows which of them echod promises to run with. Must never know what the tests are; a Python that is not here is left out, with a line.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = False

if pyenv := shutil.which("pyenv"):
    # Its programs on the PATH, such as python3.13, run only what is active: here all that is installed.
    installed = subprocess.run([pyenv, "versions", "--bare"], capture_output=True, text=True, check=False).stdout.split()
    os.environ.setdefault("PYENV_VERSION", ":".join(installed))

PYTHONS = ["3.11", "3.12", "3.13"]

# What those that another Python or another reactor could change. Without what tests programs, builds or takes a load.
TESTS = ["tests", *(f"--ignore=tests/{name}" for name in ("conformance", "fuzz", "native/fuzz", "native/test_fuzz.py"))]
TESTS += [f"--ignore=tests/{name}" for name in ("test_packaging.py", "native/test_instructions.py", "test_manual.py")]

REACTORS = ["epoll", "poll", "asyncio"]


def run_tests(session: nox.Session, *constraints: str, env: dict[str, str] | None = None) -> None:
    """Install echod with its lane and its tests, and run them; words after `--` take the place of the list of tests."""
    session.install("--editable", ".[test]", *constraints, env={"ECHOD_NATIVE": "1"})
    session.run("python", "-m", "pytest", "--quiet", *(session.posargs or TESTS), env=env)


@nox.session(python=PYTHONS)
def python(session: nox.Session) -> None:
    """The tests under each Python."""
    run_tests(session)


@nox.session
@nox.parametrize("reactor", REACTORS)
def reactor(session: nox.Session, reactor: str) -> None:
    """Those in process and those with a daemon, both under the reactor."""
    run_tests(session, env={"ECHOD_TEST_REACTOR": reactor})


@nox.session
def oldest(session: nox.Session) -> None:
    """The oldest Autobahn, Twisted and others that pyproject.toml lets in."""
    run_tests(session, "--constraint", "tests/oldest.txt")


@nox.session
def newest(session: nox.Session) -> None:
    """The newest of all that is needed, released versions only."""
    run_tests(session, "--upgrade", "--upgrade-strategy", "eager")

"""Run the tests under other Pythons, other reactors, and the oldest and newest Autobahn and Twisted: `nox`, or `make
compatibility`.

Knows which of them echod promises to run with. Must never know what the tests are. A Python that is not installed is
left out, with a line. With ECHOD_TEST_REQUIRE=all it is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = os.environ.get("ECHOD_TEST_REQUIRE") == "all"

if pyenv := shutil.which("pyenv"):
    # pyenv's programs on the PATH, such as python3.13, run only active versions. Activate all that are installed.
    installed = subprocess.run(
        [pyenv, "versions", "--bare"], capture_output=True, text=True, check=False
    ).stdout.split()
    os.environ.setdefault("PYENV_VERSION", ":".join(installed))

PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]

# Tests whose result another Python or another reactor could change: tests in this process, and tests with a daemon.
# Tests of tools, of builds and under load are left out.
WITH_DAEMON = [
    "interop",
    "test_admin_daemon.py",
    "test_checking.py",
    "test_closing_daemon.py",
    "test_door_daemon.py",
    "test_pytest_plugin.py",
    "test_running.py",
    "test_url.py",
    "test_workers_daemon.py",
    "testing",
]
WITH_DAEMON = [f"tests/{name}" for name in WITH_DAEMON]
APART = [
    "browser",
    "conformance",
    "fuzz",
    "reliability",
    "system",
    "lane/native/fuzz",
    "lane/native/test_build.py",
    "lane/native/test_fuzz.py",
    "lane/native/test_instructions.py",
]
APART += ["test_ci.py", "test_manual.py", "test_packaging.py", "test_readme.py", "test_testing_examples.py"]
# It starts daemons under each reactor by itself.
APART += ["test_wall_clock.py"]
IN_PROCESS = ["tests", *(f"--ignore=tests/{name}" for name in APART), *(f"--ignore={name}" for name in WITH_DAEMON)]

REACTORS = ["epoll", "poll", "asyncio"]

# The same as in the Makefile.
SHARED_OUT = ["--numprocesses", os.environ.get("WORKERS", "4"), "--dist", "worksteal"]

# One process for each core: tests in process seldom wait, and each process takes ten seconds to load all of them.
SHARED_OUT_IN_PROCESS = ["--numprocesses", "auto", "--dist", "worksteal"]


# Options of pip for the oldest and the newest versions that pyproject.toml allows. They are released versions only.
OLDEST = ("--constraint", "tests/oldest.txt")
NEWEST = ("--upgrade", "--upgrade-strategy", "eager")


def install(session: nox.Session, *options: str) -> None:
    """Install echod with the express lane and the tests."""
    session.install("--editable", ".[test]", *options, env={"ECHOD_NATIVE": "1"})


# Left out in CI, where other stages run it: the C code by itself, which is the same under each Python and reactor, and
# what clients make of wrong bytes, which are the same, too.
ELSEWHERE = ["lane/native", "interop/test_caught.py", "interop/test_matching.py"]
ELSEWHERE = [f"--ignore=tests/{name}" for name in ELSEWHERE]


def run_in_process(session: nox.Session, reactor: str = "epoll", *options: str, interpreter: str = "python") -> None:
    """Run the tests that start no daemon, under a reactor, with pytest's `options`."""
    session.run(
        interpreter,
        *("-m", "pytest", "--quiet"),
        *SHARED_OUT_IN_PROCESS,
        *IN_PROCESS,
        *options,
        env={"ECHOD_TEST_OWN_REACTOR": reactor},
    )


def run_tests(session: nox.Session, reactor: str = "epoll", *options: str) -> None:
    """Run the tests under a reactor: those that start no daemon, and those whose daemon runs under the reactor, with
    pytest's `options`."""
    run_in_process(session, reactor, *options)
    session.run(
        "python", "-m", "pytest", "--quiet", *SHARED_OUT, *WITH_DAEMON, *options, env={"ECHOD_TEST_REACTOR": reactor}
    )


def test(session: nox.Session, *options: str) -> None:
    """Install echod and run the tests; words after `--` replace the list of tests."""
    install(session, *options)
    if session.posargs:
        session.run("python", "-m", "pytest", "--quiet", *session.posargs)
    else:
        run_tests(session)


@nox.session(python=PYTHONS)
def python(session: nox.Session) -> None:
    """Run the tests under each Python."""
    test(session)


@nox.session
@nox.parametrize("reactor", REACTORS)
def reactor(session: nox.Session, reactor: str) -> None:
    """Run the tests that start no daemon and those that start one, both under the reactor."""
    install(session)
    run_tests(session, reactor)


@nox.session
def oldest(session: nox.Session) -> None:
    """Use the oldest Autobahn, Twisted and others that pyproject.toml allows."""
    test(session, *OLDEST)


@nox.session
def newest(session: nox.Session) -> None:
    """Use the newest released version of every dependency."""
    test(session, *NEWEST)


@nox.session(venv_backend="none", default=False)
def in_process(session: nox.Session) -> None:
    """Run only the tests that start no daemon, with the Python and the packages of nox itself. No registry is asked.
    Words after `--` are options of pytest."""
    run_in_process(session, "epoll", *session.posargs, interpreter=sys.executable)


# The path is given, because for a version alone nox would use the Python that it runs on. In CI that is Debian's, and
# this one is pyenv's.
@nox.session(python=shutil.which("python3.11") or "3.11", tags=["ci"], default=False)
def oldest_under_poll(session: nox.Session) -> None:
    """Combine three of the sessions above. This session, the next one, `make test` and the bare Debians of CI cover
    each Python, each reactor, and the oldest and newest versions. Only `make test` has all windows of
    permessage-deflate, which are zlib's."""
    install(session, *OLDEST)
    run_tests(session, "poll", *ELSEWHERE, "--deselect=tests/interop/test_deflate.py::test_windows")


@nox.session(python="3.12", tags=["ci"], default=False)
def newest_under_asyncio(session: nox.Session) -> None:
    """Likewise; without one long file, for which the reactor makes no difference. `make test` runs it with the newest
    versions."""
    install(session, *NEWEST)
    run_tests(session, "asyncio", *ELSEWHERE, "--ignore=tests/interop/test_deflate.py")

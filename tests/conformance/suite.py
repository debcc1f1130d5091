"""Gets the Autobahn testsuite: installed for a CPython 2.7 that is here, else from its container image.

Knows where a 2.7 may be found and how the suite is installed or contained. Hands out a command line, no more.
Must never know which cases are run, against what, or how they came out.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
VERSION = "25.10.1"
IMAGE = f"crossbario/autobahn-testsuite:{VERSION}"
# The last virtualenv that makes environments for Python 2.7; from 20.22 on it refuses to.
VIRTUALENV = "virtualenv==20.21.1"
# Where the installed suite is kept; the variable moves it, for instance into a cache that outlives a checkout.
HOME_VARIABLE = "ECHOD_WSTEST_HOME"

PROBE_SECONDS = 20
# Pulling the image or compiling the suite's accelerator, on a slow line or machine.
INSTALL_SECONDS = 900

# Not only the right version: pip needs TLS, and a build of Python 2.7 on a new system may lack it.
_PROBE = "import platform, ssl, sys, zlib; print(platform.python_implementation(), sys.version_info[:2] == (2, 7))"


class SuiteMissingError(Exception):
    """The suite is not to be had here; the text is one line that says what would bring it."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How to run ``wstest`` once on the ``spec.json`` in a folder."""

    command: tuple[str, ...]
    outdir: str  # the folder, as wstest sees it
    environment: dict[str, str] = field(default_factory=dict)
    abort: tuple[str, ...] = ()  # what ends it when ending the process does not


class Suite(Protocol):
    """A testsuite ready to run."""

    @property
    def description(self) -> str:
        """What it is, for the head of a summary."""

    def invocation(self, folder: Path) -> Invocation:
        """How to run it on the ``spec.json`` in a folder."""


@dataclass(frozen=True, slots=True)
class InstalledSuite:
    """The suite in a Python 2.7 environment of its own."""

    python: Path

    @property
    def description(self) -> str:
        return f"autobahntestsuite {VERSION} on CPython 2.7"

    def invocation(self, folder: Path) -> Invocation:
        # Through the interpreter: the path in a script's first line is cut when it is long.
        wstest = str(self.python.with_name("wstest"))
        command = (str(self.python), wstest, "-m", "fuzzingclient", "-s", str(folder / "spec.json"))
        return Invocation(command, outdir=str(folder), environment=_clean_environment())


@dataclass(frozen=True, slots=True)
class ContainedSuite:
    """The suite in its container image."""

    engine: str

    @property
    def description(self) -> str:
        return f"{IMAGE} under {Path(self.engine).name}"

    def invocation(self, folder: Path) -> Invocation:
        name = f"echod-wstest-{uuid.uuid4().hex}"
        # The report must be the caller's to delete; a rootless podman maps the caller's id only when told to.
        owner = "--userns=keep-id" if Path(self.engine).name == "podman" else f"--user={os.getuid()}:{os.getgid()}"
        run = (self.engine, "run", "--rm", f"--name={name}", "--network=host", owner, "--env=PYTHONUNBUFFERED=1")
        wstest = (f"--volume={folder}:/report", IMAGE, "wstest", "-m", "fuzzingclient", "-s", "/report/spec.json")
        return Invocation(
            (*run, *wstest), outdir="/report", environment=dict(os.environ), abort=(self.engine, "kill", name)
        )


def find_suite() -> Suite:
    """The suite, installed now if it must be; SuiteMissingError when neither way is open."""
    python27 = find_python27()
    complaint = "no CPython 2.7 (`python2.7` on PATH or `pyenv install 2.7.18`)"
    if python27:
        try:
            return InstalledSuite(install(python27, _home()))
        except (OSError, subprocess.SubprocessError) as error:
            complaint = f"its install for {python27} failed ({error}; see {_home() / 'install.log'})"
    engine = _find_engine()
    if engine:
        return ContainedSuite(engine)
    raise SuiteMissingError(
        f"the Autobahn testsuite is missing: {complaint}, and no docker or podman that has or gets the image {IMAGE}"
    )


def find_python27() -> Path | None:
    """A CPython 2.7 that really runs: pyenv leaves a ``python2.7`` on PATH that only says that it is not active."""
    on_path = shutil.which("python2.7")
    candidates = ([Path(on_path)] if on_path else []) + _pyenv_pythons()
    return next((path for path in candidates if _output([str(path), "-c", _PROBE]) in {"('CPython', True)"}), None)


def _pyenv_pythons() -> list[Path]:
    """The 2.7 interpreters that pyenv has installed, active or not, the newest first."""
    pyenv = shutil.which("pyenv")
    listed = (_output([pyenv, "versions", "--bare"]) or "").split() if pyenv else []
    versions = sorted(
        (name for name in listed if re.fullmatch(r"2\.7\.\d+", name)), key=lambda name: int(name[4:]), reverse=True
    )
    prefixes = [_output([str(pyenv), "prefix", version]) for version in versions]
    return [Path(prefix) / "bin" / "python2.7" for prefix in prefixes if prefix]


def _find_engine() -> str | None:
    """A container engine that answers and has the image, pulled now if it must be."""
    for name in ("docker", "podman"):
        engine = shutil.which(name)
        # `version` asks the engine's daemon; `info` of some dockers exits with 0 although none answers.
        if engine and _output([engine, "version"]) is not None and _has_image(engine):
            return engine
    return None


def _has_image(engine: str) -> bool:
    return (
        _output([engine, "image", "inspect", IMAGE]) is not None
        or _output([engine, "pull", IMAGE], INSTALL_SECONDS) is not None
    )


def _output(command: Sequence[str], seconds: float = PROBE_SECONDS) -> str | None:
    """What a command prints, or None when it can't be run, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=True, env=_clean_environment()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _clean_environment() -> dict[str, str]:
    """The caller's environment without what would lead one Python into the packages of another."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    }
    # wstest tells its progress by printing; into a file it would come in blocks, and be lost when the run is ended.
    return kept | {"PYTHONUNBUFFERED": "1"}


def _home() -> Path:
    return Path(os.environ.get(HOME_VARIABLE) or ROOT / ".venv-wstest").absolute()


def install(python27: Path, home: Path) -> Path:
    """The interpreter of an environment that holds the suite, made or made anew where it is not complete."""
    home.mkdir(parents=True, exist_ok=True)
    suite = home / "suite"
    python, ready = suite / "bin" / "python", suite / "ready"
    recipe = hashlib.sha256(REQUIREMENTS.read_bytes() + VIRTUALENV.encode() + str(python27).encode()).hexdigest()
    with _locked(home / "lock"):
        if not (
            ready.exists()
            and ready.read_text() == recipe
            and _output([str(python), "-c", "import autobahntestsuite"]) is not None
        ):
            print(f"installing autobahntestsuite {VERSION} into {suite}", file=sys.stderr, flush=True)
            _make_environment(python27, home)
            ready.write_text(recipe)
    return python


def _make_environment(python27: Path, home: Path) -> None:
    """An environment for the 2.7 with the suite in it, from nothing.

    Neither the 2.7 nor the Python that runs this need have virtualenv: a helper environment of our own does.
    """
    helper, suite = home / "helper", home / "suite"
    for stale in (helper, suite):
        shutil.rmtree(stale, ignore_errors=True)
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", helper],
        [helper / "bin" / "python", "-m", "pip", "install", VIRTUALENV],
        [helper / "bin" / "python", "-m", "virtualenv", "--app-data", helper / "app-data", "--python", python27, suite],
        [suite / "bin" / "python", "-m", "pip", "install", "--no-deps", "--requirement", REQUIREMENTS],
        [suite / "bin" / "python", "-m", "pip", "check"],
    ]
    environment = _clean_environment() | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_PYTHON_VERSION_WARNING": "1"}
    with (home / "install.log").open("w") as log:
        for command in commands:
            print("$", *command, file=log, flush=True)
            subprocess.run(
                command, stdout=log, stderr=subprocess.STDOUT, timeout=INSTALL_SECONDS, check=True, env=environment
            )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time: the tests and `make conformance` may well be started beside each other."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

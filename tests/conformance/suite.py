"""Gets the Autobahn testsuite: installs it for a local CPython 2.7, or else uses its container image.

Knows where to find a Python 2.7, and how to install the suite or run its container. It returns only a command line.
Must never know which cases run, against what, or with which results.
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
# The last version of virtualenv that supports Python 2.7: from 20.22 on it refuses.
VIRTUALENV = "virtualenv==20.21.1"
# This variable names another folder for the installed suite, for example a cache that outlives the checkout.
HOME_VARIABLE = "ECHOD_WSTEST_HOME"

# The suite's modes: it tests a server, or clients.
CLIENT, SERVER = "fuzzingclient", "fuzzingserver"

# A busy machine takes long. A suite that is taken for broken is made again, and others may be using it.
PROBE_SECONDS = 120
# For pulling the image or compiling the suite's accelerator over a slow line or on a slow machine.
INSTALL_SECONDS = 900

# Also check for modules: pip needs TLS, and a Python 2.7 that was built on a new system may lack it.
_PROBE = "import platform, ssl, sys, zlib; print(platform.python_implementation(), sys.version_info[:2] == (2, 7))"


class SuiteMissingError(Exception):
    """The suite is not available here. The text is one line that says how to get it."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How to run ``wstest`` once, with the ``spec.json`` in a folder."""

    command: tuple[str, ...]
    outdir: str  # the folder as wstest sees it
    environment: dict[str, str] = field(default_factory=dict)
    abort: tuple[str, ...] = ()  # command that ends wstest when ending the process does not


class Suite(Protocol):
    """A testsuite that is ready to run."""

    @property
    def description(self) -> str:
        """Name and version, for the head of a summary."""

    def invocation(self, folder: Path, mode: str = CLIENT) -> Invocation:
        """Return how to run the suite in one of its modes, with the ``spec.json`` in a folder."""


@dataclass(frozen=True, slots=True)
class InstalledSuite:
    """The suite in an environment for Python 2.7."""

    python: Path

    @property
    def description(self) -> str:
        return f"autobahntestsuite {VERSION} on CPython 2.7"

    def invocation(self, folder: Path, mode: str = CLIENT) -> Invocation:
        # Through the interpreter, because the kernel cuts a long path in the first line of a script.
        wstest = str(self.python.with_name("wstest"))
        command = (str(self.python), wstest, *_words(mode, str(folder)))
        return Invocation(command, outdir=str(folder), environment=_clean_environment())


@dataclass(frozen=True, slots=True)
class ContainedSuite:
    """The suite in its container image."""

    engine: str

    @property
    def description(self) -> str:
        return f"{IMAGE} under {Path(self.engine).name}"

    def invocation(self, folder: Path, mode: str = CLIENT) -> Invocation:
        name = f"echod-wstest-{uuid.uuid4().hex}"
        # The caller must be able to delete the report. A rootless podman maps the caller's id only with this option.
        owner = "--userns=keep-id" if Path(self.engine).name == "podman" else f"--user={os.getuid()}:{os.getgid()}"
        run = (self.engine, "run", "--rm", f"--name={name}", "--network=host", owner, "--env=PYTHONUNBUFFERED=1")
        wstest = (f"--volume={folder}:/report", IMAGE, "wstest", *_words(mode, "/report"))
        return Invocation(
            (*run, *wstest), outdir="/report", environment=dict(os.environ), abort=(self.engine, "kill", name)
        )


def _words(mode: str, folder: str) -> tuple[str, ...]:
    """Return the arguments of wstest. Otherwise its server would also serve pages, on a port that may be taken."""
    return ("-m", mode, "-s", f"{folder}/spec.json", *(("--webport", "0") if mode == SERVER else ()))


def find_suite() -> Suite:
    """Return the suite, and install it if necessary. Raise SuiteMissingError if no way works."""
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
        f"the Autobahn testsuite is missing: {complaint}, and no docker or podman that has or can get the image {IMAGE}"
    )


def find_python27() -> Path | None:
    """Return a CPython 2.7 that works. pyenv may leave a ``python2.7`` on PATH that only prints that it is not
    active."""
    on_path = shutil.which("python2.7")
    candidates = ([Path(on_path)] if on_path else []) + _pyenv_pythons()
    return next((path for path in candidates if _output([str(path), "-c", _PROBE]) in {"('CPython', True)"}), None)


def _pyenv_pythons() -> list[Path]:
    """Return the 2.7 interpreters that pyenv has installed, active or not, the newest first."""
    pyenv = shutil.which("pyenv")
    listed = (_output([pyenv, "versions", "--bare"]) or "").split() if pyenv else []
    versions = sorted(
        (name for name in listed if re.fullmatch(r"2\.7\.\d+", name)), key=lambda name: int(name[4:]), reverse=True
    )
    prefixes = [_output([str(pyenv), "prefix", version]) for version in versions]
    return [Path(prefix) / "bin" / "python2.7" for prefix in prefixes if prefix]


def _find_engine() -> str | None:
    """Return a container engine that responds and has the image. The image is pulled if necessary."""
    for name in ("docker", "podman"):
        engine = shutil.which(name)
        # `version` asks the engine's daemon. Some dockers' `info` exits with 0 although no daemon responds.
        if engine and _output([engine, "version"]) is not None and _has_image(engine):
            return engine
    return None


def _has_image(engine: str) -> bool:
    return (
        _output([engine, "image", "inspect", IMAGE]) is not None
        or _output([engine, "pull", IMAGE], INSTALL_SECONDS) is not None
    )


def _output(command: Sequence[str], seconds: float = PROBE_SECONDS) -> str | None:
    """Return the output of a command, or None if the command can't run, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, check=True, env=_clean_environment()
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _clean_environment() -> dict[str, str]:
    """Return the caller's environment without variables that make one Python use another's packages."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV"}
    }
    # wstest prints its progress. Written to a file, the progress would be buffered, and lost when the run is stopped.
    return kept | {"PYTHONUNBUFFERED": "1"}


def _home() -> Path:
    return Path(os.environ.get(HOME_VARIABLE) or ROOT / ".venv-wstest").absolute()


def install(python27: Path, home: Path) -> Path:
    """Return the interpreter of an environment with the suite, which is created if it is missing or incomplete."""
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
    """Create an environment for Python 2.7 with the suite in it.

    Neither the Python 2.7 nor this Python need to have virtualenv, because this makes a helper environment for it.
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
    """Let only one process in at a time: the tests and `make conformance` may run in parallel."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

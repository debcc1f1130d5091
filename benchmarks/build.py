"""Gets what the benchmark runs: compiles the C and Go programs, installs the peers from their registries, and makes a
certificate.

Everything is put into ``build/benchmarks``. This folder is never committed, and is kept for the next run.

Knows: compilers, package managers, paths. Must never know: how a server is started or measured.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = ROOT / "build" / "benchmarks"
PEERS = HERE / "peers"
UWEBSOCKETS = PEERS / "uwebsockets.txt"
"""Pins the package that brings uWebSockets."""

C_FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-O3", "-flto=auto", "-Wall", "-Wextra"]

Feature = str
LIBRARIES: dict[Feature, list[str]] = {"deflate": ["-lz"], "tls": ["-lssl", "-lcrypto"]}


class Unavailable(Exception):
    """Something is not available on this machine. The text says how to get it."""


def run(command: list[str], hint: str, **environment: str) -> str:
    """Run a tool to its end. If it fails, raise ``Unavailable`` with the hint and the tool's last line of output."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=600, check=False, env=os.environ | environment
        )
    except OSError as error:
        raise Unavailable(f"{hint} ({error.strerror}: {command[0]})") from error
    except subprocess.TimeoutExpired as expired:
        raise Unavailable(f"{hint} ({Path(command[0]).name} takes more than ten minutes)") from expired
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{hint} ({Path(command[0]).name}: {last})")
    return done.stdout.strip()


def is_newer(product: Path, sources: list[Path]) -> bool:
    """Tell whether the product exists and is newer than every source."""
    return product.exists() and all(source.stat().st_mtime < product.stat().st_mtime for source in sources)


@contextmanager
def made_once() -> Iterator[None]:
    """Lock ``BUILD`` for one process. If several need a program, as tests do, then one makes it and the others find it
    complete."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def compile_c(name: str, sources: list[Path], flags: list[str], hint: str) -> Path:
    """Compile sources, with the headers in the same folder, into a program, and return its path."""
    product = BUILD / name
    headers = [header for source in sources[:1] for header in source.parent.glob("*.h")]
    with made_once():
        if not is_newer(product, sources + headers):
            compiler = os.environ.get("CC", "cc")
            run([compiler, *C_FLAGS, *map(str, sources), "-o", str(product), *flags], hint)
    return product


def load_generator(features: frozenset[Feature] = frozenset()) -> Path:
    """Return the load generator. Without features it needs only a C compiler."""
    names = sorted(features)
    flags = [f"-DWITH_{name.upper()}" for name in names] + [flag for name in names for flag in LIBRARIES[name]]
    hint = "the load generator needs a C compiler" + "".join(f", {LIBRARIES_FROM[name]}" for name in names)
    return compile_c("-".join(["load", *names]), sorted((HERE / "load").glob("*.c")), flags, hint)


LIBRARIES_FROM: dict[Feature, str] = {"deflate": "zlib (Debian: zlib1g-dev)", "tls": "OpenSSL (Debian: libssl-dev)"}


def floor() -> Path:
    """Return the bare C echo."""
    return compile_c("floor", [PEERS / "floor.c"], [], "the floor needs a C compiler")


def gorilla() -> Path:
    """Return the Go server, built from Debian's package of gorilla/websocket as Debian builds its own packages."""
    product = BUILD / "gorilla"
    source = PEERS / "gorilla.go"
    with made_once():
        if not is_newer(product, [source]):
            run(
                ["go", "build", "-o", str(product), str(source)],
                "gorilla: apt-get install golang golang-github-gorilla-websocket-dev",
                GO111MODULE="off",
                GOPATH="/usr/share/gocode",
                GOFLAGS="",
            )
    return product


def installed_by_npm(name: str, hint: str) -> Path:
    """Return the folder with the packages that ``peers/NAME/package.json`` pins."""
    directory = BUILD / name
    pinned = PEERS / name / "package.json"
    with made_once():
        if not is_newer(directory / "node_modules" / ".stamp", [pinned]):
            directory.mkdir(exist_ok=True)
            shutil.copy(pinned, directory / "package.json")
            run(["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--prefix", str(directory)], hint)
            (directory / "node_modules" / ".stamp").touch()
    return directory / "node_modules"


def node_modules() -> Path:
    """Return the folder with `ws`, for NODE_PATH."""
    return installed_by_npm("node", "ws: install Node and npm")


def bun() -> Path:
    """Return Bun's program."""
    return installed_by_npm("bun", "Bun: npm does not get its package") / ".bin" / "bun"


def uwebsockets_library() -> Path:
    """Return the shared library with uWebSockets, which a package for Python brings."""
    directory = BUILD / "uwebsockets-library"
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    library = directory / "socketify" / f"libsocketify_{sys.platform}_{machine}.so"
    with made_once():
        if not is_newer(directory / ".stamp", [UWEBSOCKETS]):
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
            hint = "uWebSockets: needs pip and its registry"
            run([*pip, "--upgrade", "--target", str(directory), "-r", str(UWEBSOCKETS)], hint)
            (directory / ".stamp").touch()
    if not library.exists():
        raise Unavailable(f"uWebSockets: socketify has no library for {sys.platform} on {machine}")
    return library


def uwebsockets() -> Path:
    """Return the uWebSockets server."""
    library = uwebsockets_library()
    flags = [str(library), f"-Wl,-rpath,{library.parent}"]
    hint = "uWebSockets: needs a C compiler and libuv (Debian: libuv1)"
    return compile_c("uwebsockets", [PEERS / "uwebsockets.c"], flags, hint)


def peers_python() -> Path:
    """Return the interpreter of the virtual environment with the Python peers."""
    directory = BUILD / "venv"
    pinned = PEERS / "requirements.txt"
    python = directory / "bin" / "python"
    with made_once():
        if not is_newer(directory / ".stamp", [pinned]):
            hint = "the Python peers need pip and its registry"
            run([sys.executable, "-m", "venv", str(directory)], hint)
            run(
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(pinned)], hint
            )
            (directory / ".stamp").touch()
    return python


def certificate() -> tuple[Path, Path]:
    """Return a self-signed certificate (ECDSA P-256) for 127.0.0.1, and its key."""
    pem, key = BUILD / "certificate.pem", BUILD / "key.pem"
    with made_once():
        if pem.exists() and key.exists():
            return pem, key
        request = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "3650",
        ]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
        run(["openssl", *request, *names, "-keyout", str(key), "-out", str(pem)], "TLS: install openssl")
    return pem, key

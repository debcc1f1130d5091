"""A Debian with a real systemd, which systemd-nspawn starts in a second and which is thrown away after a test.

    with System(root) as system:
        system.run("systemctl", "start", "echod")
        sock = system.connect(("127.0.0.1", 8080))

The system has a network of its own with only loopback. The only way in or out is `connect`.

Knows debootstrap, systemd-nspawn and namespaces. Must never know what is installed in the system.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon import wait_until

PACKAGES = ("systemd", "python3", "python3-venv")
"""The packages to add to debootstrap's smallest variant: systemd, and what docs/operating.md asks for."""

BUILD_DEADLINE = 1200
"""Time limit in seconds for debootstrap, which takes 80 on two cores."""

BOOT_DEADLINE = 60

COMMAND_DEADLINE = 60

FOLDER = Path(os.environ.get("ECHOD_TEST_NSPAWN") or Path(__file__).parents[2] / ".nspawn").absolute()
"""Keeps what debootstrap made, and the packages that it downloaded, for the next run."""

SCRIPTS = Path("/usr/share/debootstrap/scripts")
"""The folder in which debootstrap has a script for each release."""

CLONE_NEWNET = 0x40000000
"""From linux/sched.h. Python has this constant from 3.12 on."""

# The environment of a root login shell. The environment of the tests must not have an effect in the system.
ENVIRONMENT = (
    "env",
    "-i",
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "LANG=C.UTF-8",
)


def missing() -> str | None:
    """Return in one line what the suite needs and this machine lacks, or None."""
    if os.geteuid() != 0:
        return "the system suite needs root, for systemd-nspawn"
    for program, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(program) is None:
            return f"no {program}: apt-get install {package}"
    return None if _mirror() else "the system suite needs a Debian, whose package source it uses"


def _mirror() -> tuple[str, str] | None:
    """Return the code name and the address of this host's Debian package source."""
    listed = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
            "Origin: Debian",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        suite, component, address = line.split(" ", 2)
        if component == "main" and "-" not in suite:
            return suite, address
    return None


def base(release: str | None = None, packages: Sequence[str] = PACKAGES) -> Path:
    """Return the root folder of a bare Debian with further packages. The first call builds it. The default release is
    this host's."""
    mirror = _mirror()
    assert mirror is not None
    suite, address = release or mirror[0], mirror[1]
    root = FOLDER / f"{suite}-{sha256(' '.join(packages).encode()).hexdigest()[:8]}"
    cache = package_cache(suite)
    # Systems of the same release share downloaded packages, so they are built one after the other.
    with (FOLDER / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            unfinished = FOLDER / f"{suite}.unfinished"
            remove(unfinished)
            # Use a mount namespace. Its mounts vanish with it, however the build ends.
            build = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--cache-dir={cache}"]
            # An old debootstrap has no script for a newer release, but the scripts have been the same for years.
            script = SCRIPTS / suite
            others = [f"--include={','.join(packages)}"] if packages else []
            command = [
                *build,
                *others,
                suite,
                str(unfinished),
                address,
                str(script if script.exists() else SCRIPTS / "sid"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr
            for package in (unfinished / "var/cache/apt/archives").glob("*.deb"):
                package.unlink()
            unfinished.rename(root)
    return root


def package_cache(release: str) -> Path:
    """Return the folder of the downloaded packages of a release."""
    cache = FOLDER / "packages" / release
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextmanager
def copy(root: Path, folder: Path) -> Iterator[Path]:
    """Yield a copy of `root` in `folder` that may be changed."""
    to = folder / "root"
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", str(root), str(to)], check=True, timeout=BUILD_DEADLINE)
        yield to
    finally:
        remove(to)


def remove(root: Path) -> None:
    """Remove a root folder, but nothing that may be mounted in it."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(root)], check=True, timeout=BUILD_DEADLINE)


def command_line(root: Path, *options: str, has_network: bool = False) -> list[str]:
    """Return the start of a systemd-nspawn command line. `has_network` gives the system this host's network."""
    # Without a systemd on this host, nothing can provide a cgroup.
    unit = [] if Path("/run/systemd/system").is_dir() else ["--keep-unit"]
    network = [] if has_network else ["--private-network"]
    console = ["--console=pipe", f"--machine=echod-{os.getpid()}"]
    return ["systemd-nspawn", "--quiet", *unit, "--register=no", *network, *console, f"--directory={root}", *options]


def run(root: Path, script: str, folders: Mapping[Path, str]) -> None:
    """Run a shell script in a system that is not booted. `folders` of this system are visible there."""
    binds = [f"--bind-ro={here}:{there}" for here, there in folders.items()]
    command = [*command_line(root, *binds), *ENVIRONMENT, "sh", "-c", script]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class System:
    """A running system, from `__enter__` to `__exit__`. `root` itself does not change."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._network: int | None = None

    def __enter__(self) -> Self:
        """Boot, and wait until systemd has finished starting."""
        self._console = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command_line(self._root, "--volatile=overlay", "--boot"),
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(self._has_booted, "the system to boot", BOOT_DEADLINE)
            self._network = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException as error:
            error.add_note(self._read_console())
            self._end()
            raise
        return self

    def _has_booted(self) -> bool:
        assert self._process.poll() is None, f"systemd-nspawn ended with {self._process.returncode}"
        first = self._first_process()
        if first is None:
            return False
        self.pid = first
        state = self.run("systemctl", "is-system-running", is_checked=False).stdout.strip()
        assert state != "degraded", self.run("systemctl", "--failed", is_checked=False).stdout
        return state == "running"

    def _first_process(self) -> int | None:
        """Return the first process of the system once it is systemd. nspawn starts others before it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for child in children:
            with suppress(OSError):
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return None

    def _read_console(self) -> str:
        self._console.seek(0)
        return self._console.read()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Kill the system without a shutdown."""
        self._end()

    def _end(self) -> None:
        if self._network is not None:
            os.close(self._network)
        first = self._first_process() if self._process.poll() is None else None
        with suppress(ProcessLookupError):
            # With its first process the whole pid namespace ends, and nspawn cleans up.
            os.kill(first or self._process.pid, signal.SIGKILL)
        try:
            self._process.wait(COMMAND_DEADLINE)
        finally:
            self._process.kill()
            self._console.close()

    # What a test does in the system.

    def path(self, path: str) -> Path:
        """Return where this system sees a file of the other one."""
        return Path(f"/proc/{self.pid}/root{path}")

    def write(self, path: str, text: str) -> None:
        """Write a file."""
        self.path(path).parent.mkdir(parents=True, exist_ok=True)
        self.path(path).write_text(text)

    def run(self, *command: str, is_checked: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command as root. Its exit status must be 0, unless `is_checked` is false and the caller judges it."""
        inside = ["nsenter", f"--target={self.pid}", "--all", "--wdns=/root", "--", *ENVIRONMENT, *command]
        done = subprocess.run(
            inside,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_DEADLINE,
            check=False,
            cwd="/",
        )
        assert not is_checked or done.returncode == 0, (
            f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", f"--property={name}", "--value", unit).stdout.strip()

    def wait_for(self, unit: str, name: str, value: str, deadline: float = COMMAND_DEADLINE) -> None:
        """Wait until a property of a unit has this value."""
        wait_until(lambda: self.show(unit, name) == value, f"{name} of {unit} to be {value}", deadline)

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """Return all journal entries of a unit so far: its own, and those of systemd about it."""
        self.run("journalctl", "--sync")
        done = self.run("journalctl", "--no-pager", "--output=json", f"--unit={unit}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def connect(self, address: Any, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
        """Return a socket that is connected to an address in the system: a path, or a pair of host and port."""
        sock = self._make_socket(family)
        sock.settimeout(COMMAND_DEADLINE)
        try:
            sock.connect(str(self.path(address)) if family == socket.AF_UNIX else address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _make_socket(self, family: socket.AddressFamily) -> socket.socket:
        """Make a socket in the system's network. A socket belongs to the network in which it was made, in any
        thread."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(self._network, CLONE_NEWNET):
                made.append(OSError(ctypes.get_errno(), "setns"))
            else:
                made.append(socket.socket(family))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

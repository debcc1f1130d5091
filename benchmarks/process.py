"""A server that is measured: it is started on its own cores, asked for its memory, and stopped.

Knows: processes, cores, ``/proc``. Must never know: what the server is, or what is measured.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 5.0


class ServerFault(Exception):
    """A server did not start, or ended. The text is its last output."""


@dataclass(frozen=True)
class Memory:
    """Memory of all processes of a server in KiB: resident, and proportional (each shared page is divided by the number
    of processes that share it)."""

    rss: int
    pss: int


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """Processes that are started inside inherit the cores. At the end the caller gets its own cores back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def group_members(group: int) -> list[int]:
    """Return the processes of a process group, because a server may have workers."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # the process has ended meanwhile
            if int(fields[2]) == group:
                members.append(int(entry.name))
    return sorted(members)


def memory_of(pids: list[int]) -> Memory:
    """Return the kernel's sums for these processes."""
    sums = {"Rss": 0, "Pss": 0}
    for pid in pids:
        with suppress(OSError):  # the process may have ended meanwhile
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, _, rest = line.partition(":")
                if name in sums:
                    sums[name] += int(rest.split()[0])
    return Memory(rss=sums["Rss"], pss=sums["Pss"])


@dataclass(frozen=True)
class Launch:
    """How and where a server is started."""

    command: list[str]
    environment: dict[str, str]
    directory: Path
    log: Path
    port: int
    cores: frozenset[int]
    ready: str = ""
    """The log message with which the server begins to serve, if that is later than when it listens."""


class Process:
    """One server on its cores, in a process group of its own."""

    def __init__(self, launch: Launch) -> None:
        """Start the server. ``wait_until_ready`` returns when it listens."""
        self.port = launch.port
        self._log = launch.log
        self._ready = launch.ready
        launch.log.parent.mkdir(parents=True, exist_ok=True)
        with on_cores(launch.cores), launch.log.open("wb") as output:
            self._child = subprocess.Popen(
                launch.command,
                env=os.environ | launch.environment,
                cwd=launch.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def last_words(self) -> str:
        """Return the end of the server's output."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    def wait_until_ready(self) -> None:
        """Return once the server accepts a connection and has logged that it serves."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise ServerFault(f"ended at start with status {self._child.returncode}: {self.last_words()}")
            if self._is_ready():
                return
            time.sleep(0.01)
        raise ServerFault(f"did not listen within {START_SECONDS:g} s: {self.last_words()}")

    def _is_ready(self) -> bool:
        if self._ready and self._ready not in self._log.read_text(errors="replace"):
            return False
        with suppress(OSError):  # the server isn't listening yet
            socket.create_connection((HOST, self.port), timeout=1).close()
            return True
        return False

    def pids(self) -> list[int]:
        """Its processes."""
        return group_members(self._child.pid)

    def memory(self) -> Memory:
        """Return the memory of all processes together."""
        return memory_of(self.pids())

    def memories(self) -> list[Memory]:
        """Return the memory of each process, with the first one that was started first."""
        return [memory_of([pid]) for pid in self.pids()]

    def stop(self) -> None:
        """End the whole group: with SIGTERM first, then kill what is left of it."""
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL)
        self._child.wait()

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, number)


@contextmanager
def running(launch: Launch) -> Iterator[Process]:
    """Yield a server that is ready, and stop it at the end."""
    process = Process(launch)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.stop()

"""A server under the clock: started on its own cores, asked for its memory, stopped.

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
    """A server did not start, or ended; the text is its last words."""


@dataclass(frozen=True)
class Memory:
    """KiB of all processes of a server: resident, and proportional (shared pages divided among those who share
    them)."""

    rss: int
    pss: int


@contextmanager
def on_cores(cores: Iterable[int]) -> Iterator[None]:
    """What is started inside inherits the cores; the caller goes back to its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def group_members(group: int) -> list[int]:
    """The processes of a process group: a server may have workers."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended meanwhile
            if int(fields[2]) == group:
                members.append(int(entry.name))
    return sorted(members)


def memory_of(pids: list[int]) -> Memory:
    """As the kernel sums it up for each process."""
    sums = {"Rss": 0, "Pss": 0}
    for pid in pids:
        with suppress(OSError):  # it ended meanwhile
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
                name, _, rest = line.partition(":")
                if name in sums:
                    sums[name] += int(rest.split()[0])
    return Memory(rss=sums["Rss"], pss=sums["Pss"])


@dataclass(frozen=True)
class Launch:
    """How a server is started, and where."""

    command: list[str]
    environment: dict[str, str]
    directory: Path
    log: Path
    port: int
    cores: frozenset[int]
    ready: str = ""
    """What it logs when it serves, if that is later than when it listens."""


class Process:
    """One server on its cores, in a process group of its own."""

    def __init__(self, launch: Launch) -> None:
        """Start it; ``wait_until_ready`` tells when it listens."""
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
        """The end of what it printed."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no output"

    def wait_until_ready(self) -> None:
        """Return once it accepts a connection, and has said that it serves."""
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
        with suppress(OSError):  # it isn't listening yet
            socket.create_connection((HOST, self.port), timeout=1).close()
            return True
        return False

    def pids(self) -> list[int]:
        """Its processes."""
        return group_members(self._child.pid)

    def memory(self) -> Memory:
        """Of all its processes."""
        return memory_of(self.pids())

    def memories(self) -> list[Memory]:
        """Of each of its processes, the one that was started first."""
        return [memory_of([pid]) for pid in self.pids()]

    def stop(self) -> None:
        """End the whole group: gently first, and then what is left of it."""
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
    """A server that is ready inside and gone after."""
    process = Process(launch)
    try:
        process.wait_until_ready()
        yield process
    finally:
        process.stop()

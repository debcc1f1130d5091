"""A daemon in its own process, and what the kernel says of it: memory, CPU, descriptors.

Knows twistd's command line and /proc. Must never know a frame, and must never import echod: what a figure says must not
depend on the word of what is measured.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

KIB = 1024
MIB = 1024 * KIB

START_SECONDS = 30.0
STOP_SECONDS = 30.0

FAULTS = ("Traceback", "Unhandled", "a connection failed")
"""What a log must never hold, whatever clients do: an exception that reached the reactor, a Deferred that nobody looked
after, or the protocol's own last resort."""

_LISTENING = re.compile(r"listening on ws://(.+):([0-9]+)$", re.MULTILINE)


class Daemon:
    """A running daemon."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.pid = process.pid
        self._log = log
        self.address = self._wait_for_address()

    def _wait_for_address(self) -> tuple[str, int]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if match := _LISTENING.search(self.log()):
                return match[1], int(match[2])
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the daemon does not listen:\n{self.log()}")

    def log(self) -> str:
        """Return all that it has written so far."""
        return self._log.read_text(errors="replace")

    def memory(self) -> int:
        """Return its resident memory in octets."""
        return self._kib("smaps_rollup", "Rss")

    def reset_peak(self) -> None:
        """Let `peak` begin anew (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the most resident memory since `reset_peak`, which no sampling could miss."""
        return self._kib("status", "VmHWM")

    def _kib(self, name: str, key: str) -> int:
        match = re.search(rf"^{key}:\s+([0-9]+) kB$", Path(f"/proc/{self.pid}/{name}").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * KIB

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Return how many descriptors it has open."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> float:
        """Wait for a condition that is seen from outside; return the seconds that it took, or `seconds` if it never came."""
        start = time.monotonic()
        while not condition() and time.monotonic() - start < seconds:
            time.sleep(0.02)
        return time.monotonic() - start

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = STOP_SECONDS) -> int:
        """Wait for its end and return the exit status."""
        return self.process.wait(seconds)


@contextmanager
def running(
    directory: Path,
    *options: str,
    nofile: int | None = None,
    interface: str = "127.0.0.1",
    prefix: Sequence[str] = (),
) -> Iterator[Daemon]:
    """Run a daemon for as long as the block runs; afterwards it must end well and have no fault in its log.

    `prefix` is a command that runs another one, in the same process.
    """
    twistd = Path(sys.executable).with_name("twistd")
    command = [*prefix, str(twistd), "-n", "--pidfile=", "echod", "--port", f"tcp:0:interface={interface}", *options]
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "echod.log"

    def limit() -> None:
        if nofile is not None:
            # The hard limit too: the daemon raises the soft one to it.
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, nofile))

    with path.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=limit,  # noqa: PLW1509  # there is no other thread here, and no other way to give a child its limits
        )
    try:
        daemon = Daemon(process, path)
        yield daemon
        if process.poll() is None:
            process.terminate()
        assert process.wait(STOP_SECONDS) == 0, path.read_text(errors="replace")[-2000:]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    log = path.read_text(errors="replace")
    assert not [fault for fault in FAULTS if fault in log], log[-4000:]

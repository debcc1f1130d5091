"""A daemon in its own process, and the kernel's figures about it: memory, CPU, descriptors.

Knows /proc. Must never know a frame, and must never import echod: a figure must not depend on what the measured daemon
says.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests import daemon

KIB = 1024
MIB = 1024 * KIB


class Daemon(daemon.Daemon):
    """A running daemon that is measured from outside."""

    def __init__(
        self,
        *options: str,
        nofile: int | None = None,
        interface: str = "127.0.0.1",
        certificate: Path | None = None,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`nofile` is the daemon's RLIMIT_NOFILE. With a `certificate` file, which holds the key too, the daemon uses
        TLS. `prefix` is a command that executes another one in the same process. `env` is as in the base class."""
        kind, key = ("tcp", "") if certificate is None else ("ssl", f":privateKey={certificate}")
        super().__init__(*options, ports=(f"{kind}:0:interface={interface}{key}",), env=env)
        # Set the hard limit too, because the daemon raises the soft limit to the hard one.
        self._prefix = [*prefix, *([f"prlimit --nofile={nofile}:{nofile}"] if nofile is not None else [])]

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [*(word for part in self._prefix for word in part.split()), *super().command]

    def memory(self) -> int:
        """Return the daemon's resident memory in bytes."""
        return self._kib("smaps_rollup", "Rss")

    def reset_peak(self) -> None:
        """Restart the measurement of `peak` (proc_pid_clear_refs(5))."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def peak(self) -> int:
        """Return the peak of the resident memory since `reset_peak`. Sampling could miss it."""
        return self._kib("status", "VmHWM")

    def _kib(self, name: str, key: str) -> int:
        match = re.search(rf"^{key}:\s+([0-9]+) kB$", Path(f"/proc/{self.pid}/{name}").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) * KIB

    def cpu(self) -> float:
        """Return the seconds of CPU time that the daemon has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self) -> int:
        """Return the number of the daemon's open descriptors."""
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def seconds_until(self, condition: Callable[[], bool], most: float) -> float:
        """Wait for a condition; return the seconds that this took, or at least `most` if the condition never became
        true."""
        start = time.monotonic()
        while not condition() and time.monotonic() - start < most:
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_until_it_rests(self, most: float = 120.0) -> None:
        """Wait until the daemon uses nearly no CPU time, and so has handled all that it was sent."""
        used = -1.0
        deadline = time.monotonic() + most
        while self.cpu() - used > 0.05 and time.monotonic() < deadline:  # an honest client's traffic costs less
            used = self.cpu()
            time.sleep(0.3)

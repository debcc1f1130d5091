"""A daemon in its own process, and what the kernel says of it: memory, CPU, descriptors.

Knows /proc. Must never know a frame, and must never import echod: what a figure says must not depend on the word of
what is measured.
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
    """A running daemon that is looked at from outside."""

    def __init__(
        self,
        *options: str,
        nofile: int | None = None,
        interface: str = "127.0.0.1",
        certificate: Path | None = None,
        prefix: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """`nofile` is its RLIMIT_NOFILE; with a `certificate` and its key it speaks TLS; `prefix` is a command that
        runs another one, in the same process; `env` is as there."""
        kind, key = ("tcp", "") if certificate is None else ("ssl", f":privateKey={certificate}")
        super().__init__(*options, ports=(f"{kind}:0:interface={interface}{key}",), env=env)
        # The hard limit too: the daemon raises the soft one to it.
        self._prefix = [*prefix, *([f"prlimit --nofile={nofile}:{nofile}"] if nofile is not None else [])]

    @property
    def command(self) -> list[str]:
        """The command line."""
        return [*(word for part in self._prefix for word in part.split()), *super().command]

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

    def seconds_until(self, condition: Callable[[], bool], most: float) -> float:
        """Wait for a condition that is seen from outside; return the seconds that it took, or `most` and more if it
        never came."""
        start = time.monotonic()
        while not condition() and time.monotonic() - start < most:
            time.sleep(0.02)
        return time.monotonic() - start

    def wait_until_it_rests(self, most: float = 120.0) -> None:
        """Wait until it uses no CPU to speak of: it is done with all that it was sent."""
        used = -1.0
        deadline = time.monotonic() + most
        while self.cpu() - used > 0.05 and time.monotonic() < deadline:  # what an honest client takes meanwhile is less
            used = self.cpu()
            time.sleep(0.3)

"""The machine on which figures were measured, and its load by other processes.

Knows: ``/proc``, ``uname``, the date. Must never know: figures.
"""

from __future__ import annotations

import datetime
import os
import platform
import time
from pathlib import Path


def cpu_model() -> str:
    """Return the kernel's name for the CPU."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def total_memory() -> str:
    """In GiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return f"{int(line.split()[1]) / 1024**2:.0f} GiB"
    return "unknown"


def hypervisor() -> str:
    """Return the hypervisor of a virtual machine, whose neighbours may disturb the figures."""
    flags = Path("/proc/cpuinfo").read_text()
    return "yes" if " hypervisor" in flags else "no"


class Bystanders:
    """Measures the share of the machine that other processes take, because this share is missing from every figure."""

    def __init__(self) -> None:
        """Begin to measure."""
        self._since = time.monotonic()
        self._all = busy_seconds()
        self._own = own_seconds()

    def share(self) -> float:
        """Return the share of all cores since the beginning."""
        others = busy_seconds() - self._all - (own_seconds() - self._own)
        return max(0.0, others / (time.monotonic() - self._since) / (os.cpu_count() or 1))


def busy_seconds() -> float:
    """Return the CPU time of all cores and processes, without idle time and waiting."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds() -> float:
    """Return the CPU time of this process and of its descendants that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def facts() -> dict[str, str]:
    """Return all that a reader needs to judge the figures."""
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "CPU": cpu_model(),
        "cores": str(os.cpu_count()),
        "memory": total_memory(),
        "virtual machine": hypervisor(),
        "kernel": f"{platform.system()} {platform.release()}",
    }

"""What a check writes: the report for a person, a monitor or a program, and a line of progress on a terminal.

Must never open a connection or end the process.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from time import monotonic
from typing import TextIO

from echod.check.report import CheckOutcome, Report
from echod.core.printable import escape
from echod.core.quantities import format_size

PROGRESS_INTERVAL = 0.1
"""Seconds between two lines of progress: no faster than a person reads."""


def statistics_of(round_trips: Sequence[float]) -> dict[str, float]:
    """Return minimum, median, 99th percentile (nearest rank) and maximum; empty if there are no round trips."""
    if not round_trips:
        return {}
    ordered, count = sorted(round_trips), len(round_trips)
    return {
        "min": ordered[0],
        "median": (ordered[(count - 1) // 2] + ordered[count // 2]) / 2,
        "p99": ordered[math.ceil(0.99 * count) - 1],
        "max": ordered[-1],
    }


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _summary(report: Report) -> str:
    if report.outcome is not CheckOutcome.OK:
        return f"CRITICAL - {report.step}: {report.what}"
    count = len(report.round_trips)
    median = _milliseconds(statistics_of(report.round_trips)["median"])
    return f"OK - {count} messages of {format_size(report.plan.size)} echoed, median {median}"


def as_text(report: Report) -> str:
    """Return the lines for a person. The first line is for a monitor, too: Nagios cuts it at the bar, and reads the
    figures after the bar."""
    figures = statistics_of(report.round_trips)
    performance = " ".join(f"{name}={seconds:.6f}s" for name, seconds in figures.items())
    # Nothing else in the line may look like the bar.
    lines = [_summary(report).replace("|", "\\x7c") + (f" | {performance}" if performance else "")]
    lines += report.seen
    lines += [f"note: {note}" for note in report.notes]
    facts = {
        "URL": escape(report.plan.target.url),
        "address": report.peer or ", ".join(report.addresses),
        "TLS": report.tls,
        "subprotocol": report.subprotocol,
        "extensions": ", ".join(report.extensions),
        "steps": ", ".join(f"{step} {_milliseconds(seconds)}" for step, seconds in report.times.items()),
        "round trip": ", ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in figures.items()),
    }
    lines += [f"{name}: {fact}" for name, fact in facts.items() if fact]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Return the report as one JSON object in one line of ASCII. Times are in seconds."""
    is_ok = report.outcome is CheckOutcome.OK
    record = {
        "ok": is_ok,
        "status": int(report.outcome),
        "summary": _summary(report),
        "step": None if is_ok else report.step,
        "what": report.what or None,
        "seen": list(report.seen),
        "notes": report.notes,
        "url": report.plan.target.url,
        "addresses": report.addresses,
        "peer": report.peer or None,
        "tls": report.tls or None,
        "subprotocol": report.subprotocol or None,
        "extensions": report.extensions,
        "size": report.plan.size,
        "messages": 2 * report.plan.count,
        "echoed": len(report.round_trips),
        "steps": report.times,
        "round_trip": statistics_of(report.round_trips) or None,
    }
    return json.dumps(record) + "\n"


class Progress:
    """One line that changes, on a terminal. Elsewhere nothing is written."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._next = 0.0

    def tell(self, text: str) -> None:
        """Show `text` in place of the last one, unless the last one came less than `PROGRESS_INTERVAL` ago."""
        if self._is_terminal and monotonic() >= self._next:
            self._next = monotonic() + PROGRESS_INTERVAL
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{text[:width]}")

    def end(self) -> None:
        """Leave an empty line."""
        if self._is_terminal:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()

"""Figures: one ``Sample`` for each measurement, and medians over the rounds.

Knows: numbers, JSON. Must never know: how they were measured or how they are shown.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

QUIET_SHARE = 0.05
"""The largest share of the machine that other processes may take before the figures lose their meaning."""

LIMITED_SHARE = 0.9
"""If the load generator uses a larger share of its core, it may have limited the rate."""


@dataclass(frozen=True)
class Sample:
    """One measurement of one server with one column. Times are in microseconds, memory in KiB. ``error`` says why there
    are no figures."""

    server: str
    column: str
    turn: int
    error: str = ""
    connections: int = 0
    messages: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0
    generator_share: float = 0.0
    cpu_per_message: float = 0.0
    packed_share: float = 0.0
    pss_before: int = 0
    processes: list[int] = field(default_factory=list)
    """`pss_before` of each process, with the first process first."""
    pss: int = 0
    rss: int = 0
    opening_seconds: float = 0.0


@dataclass(frozen=True)
class Results:
    """Everything that one run of the benchmark found."""

    machine: dict[str, str]
    settings: dict[str, str]
    versions: dict[str, str]
    """The version of each available server, by its key."""
    missing: dict[str, str]
    """The reason for each missing server, by its key."""
    bystanders: float
    """The share of the machine that other processes took meanwhile."""
    samples: list[Sample]

    def of(self, server: str, column: str) -> list[Sample]:
        """Return the samples of one cell that have figures."""
        return [s for s in self.samples if s.server == server and s.column == column and not s.error]

    def median(self, server: str, column: str, value: Callable[[Sample], float]) -> float | None:
        """Return the median over the rounds, or None if the cell is empty."""
        found = [value(sample) for sample in self.of(server, column)]
        return median(found) if found else None

    def error(self, server: str, column: str) -> str:
        """Return the error of the first failed round of a cell, or nothing."""
        return next((s.error for s in self.samples if s.server == server and s.column == column and s.error), "")

    def rate(self, server: str, column: str) -> float | None:
        """Return messages (or opens) per second."""
        return self.median(server, column, lambda s: s.rate)

    def cpu(self, server: str, column: str) -> float | None:
        """Return microseconds of the server's CPU time per message."""
        return self.median(server, column, lambda s: s.cpu_per_message)

    def kib_per_connection(self, server: str, column: str) -> float | None:
        """Return by how much the server's processes grew for each open connection."""
        return self.median(server, column, lambda s: (s.pss - s.pss_before) / s.connections)

    def limited(self, server: str, column: str) -> bool:
        """Tell whether the load generator limited the rate."""
        share = self.median(server, column, lambda s: s.generator_share)
        return share is not None and share > LIMITED_SHARE

    def spread(self) -> float | None:
        """Return the noise of the machine: the median of (highest - lowest) / median over all cells with two rounds or
        more."""
        cells: dict[tuple[str, str], list[float]] = {}
        for sample in self.samples:
            if not sample.error and sample.rate:
                cells.setdefault((sample.server, sample.column), []).append(sample.rate)
        spreads = [(max(rates) - min(rates)) / median(rates) for rates in cells.values() if len(rates) > 1]
        return median(spreads) if spreads else None

    def ratio(self, server: str, column: str, against: str) -> float | None:
        """Return the rate as a multiple of another server's."""
        mine, theirs = self.rate(server, column), self.rate(against, column)
        return mine / theirs if mine is not None and theirs else None

    def cpu_ratio(self, server: str, column: str, against: str) -> float | None:
        """Return how much more another server's CPU time could do with this server."""
        mine, theirs = self.cpu(server, column), self.cpu(against, column)
        return theirs / mine if mine and theirs is not None else None


def save(results: Results, path: Path) -> None:
    """Write the raw figures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(results), indent=1) + "\n")


def load(path: Path) -> Results:
    """Read the raw figures back."""
    raw = json.loads(path.read_text())
    return Results(**(raw | {"samples": [Sample(**sample) for sample in raw["samples"]]}))

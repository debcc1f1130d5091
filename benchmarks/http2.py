"""``python -m benchmarks.http2``: measures WebSockets over HTTP/2 with echod, Hypercorn, and Node's `http2` with `ws`.

The servers of a row follow directly one after another, each in a fresh process on one core, and each round begins with
another server. The clients (`http2_client`) have the other core. Shown are the medians over the rounds.

Knows servers and kinds of traffic. Must never know a frame: that is `http2_client`.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import time
from dataclasses import dataclass

from benchmarks import build, http2_client
from benchmarks.__main__ import ask_versions, tell
from benchmarks.columns import KIB, MIB, Column
from benchmarks.http2_client import Load
from benchmarks.measure import SETTLE_SECONDS, choose_cores, raise_file_limit, rotated
from benchmarks.process import Launch, Process, ServerFault, on_cores, running
from benchmarks.servers import SERVERS, Server, python_versions, words, ws_version
from tests.ports import held_port

WAIT_SECONDS = 120.0
"""Time limit in seconds for a single measurement, whatever the server does."""

BUSY = 0.9
"""If the clients use more of their core, they are the limit. The CPU time is then the figure to compare."""


@dataclass(frozen=True)
class Row:
    """One kind of traffic: each stream sends a message, and the next one when the echo has come."""

    key: str
    title: str
    connections: int
    streams: int
    size: int = 16
    tls: bool = False
    large_frames: bool = False
    holds: bool = False

    def load(self, process: Process, seconds: float) -> Load:
        """Return what the clients are told."""
        return Load(
            process.port,
            self.connections,
            self.streams,
            self.size,
            seconds,
            seconds / 2,
            process.pids(),
            self.tls,
            self.large_frames,
            self.holds,
        )


ROWS = [
    Row("small", "16 B, 1 connection of 64 streams", 1, 64),
    Row("spread", "16 B, 64 connections of 1 stream", 64, 1),
    Row("one", "16 B, 1 stream", 1, 1),
    Row("tls", "16 B, TLS 1.3, 1 connection of 64 streams", 1, 64, tls=True),
    Row("medium", "64 KiB, 1 connection of 8 streams", 1, 8, 64 * KIB),
    Row("large", "1 MiB, 1 connection of 4 streams", 1, 4, MIB),
    Row("large-frames", "the same in frames as large as the server allows", 1, 4, MIB, large_frames=True),
    Row("huge", "8 MiB, 1 stream", 1, 1, 8 * MIB),
    Row("huge-tls", "8 MiB, TLS 1.3, 1 stream", 1, 1, 8 * MIB, tls=True),
    Row("idle", "idle: 20 connections of 100 streams, after one message of 16 B", 20, 100, holds=True),
    Row("idle-one", "idle: 1,000 connections of 1 stream, after one message of 16 B", 1000, 1, holds=True),
]


def _hypercorn_version() -> str:
    return python_versions(str(build.peers_python()), "hypercorn", "h2", "uvloop")


def _hypercorn_command(port: int, column: Column) -> list[str]:
    return [str(build.peers_python()), "-m", "benchmarks.peers.hypercorn_echo", str(port), *words(column)]


def _node_command(port: int, column: Column) -> list[str]:
    return ["node", str(build.PEERS / "http2.js"), str(port), *words(column)]


PEERS = [
    next(server for server in SERVERS if server.key == "echod"),
    Server("hypercorn", "Hypercorn + uvloop", _hypercorn_version, _hypercorn_command),
    Server(
        "node",
        "Node `http2` + `ws`",
        ws_version,
        _node_command,
        environment=lambda: {"NODE_PATH": str(build.node_modules())},
    ),
]


@dataclass(frozen=True)
class Figures:
    """What one measurement found; NaN where it does not apply."""

    rate: float = math.nan
    """Messages per second."""
    cpu: float = math.nan
    """Microseconds of the server's CPU time for a message."""
    client: float = math.nan
    """How much of their core the clients used."""
    kib: float = math.nan
    """KiB of the server's memory for a stream."""
    error: str = ""


def measure(server: Server, row: Row, seconds: float, cores: tuple[int, int]) -> Figures:
    """Measure one server with one row once. `cores` are the server's and the clients'."""
    column = Column(row.key, row.title, row.connections, tls=row.tls)
    try:
        with held_port() as port:
            log = build.BUILD / f"http2-{server.key}.log"
            launch = Launch(
                server.command(port, column),
                server.environment(),
                build.ROOT,
                log,
                port,
                frozenset({cores[0]}),
                server.ready,
            )
            with running(launch) as process:
                return _drive(process, row, seconds, cores[1])
    except (ServerFault, build.Unavailable) as fault:
        return Figures(error=str(fault))


def _drive(process: Process, row: Row, seconds: float, core: int) -> Figures:
    before = process.memory().pss
    with on_cores({core}):
        clients = subprocess.Popen(
            ["timeout", "--signal=KILL", str(WAIT_SECONDS), *http2_client.command(row.load(process, seconds))],
            cwd=build.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with clients:
        assert clients.stdout is not None
        line = clients.stdout.readline()
        time.sleep(SETTLE_SECONDS if row.holds else 0)
        held = (process.memory().pss - before) / (row.connections * row.streams) if row.holds else math.nan
        _, complaint = clients.communicate("\n")
    if not line:
        return Figures(error=(complaint.strip().splitlines() or [f"nothing came within {WAIT_SECONDS:g} s"])[-1])
    found = json.loads(line)
    if row.holds:
        return Figures(kib=held)
    if not found["rate"]:
        return Figures(error="no echo came while it was measured")
    return Figures(found["rate"], found["cpu"] * 1e6, found["client"])


def median(found: list[Figures], field: str) -> float:
    """Return the median of a figure over the rounds that have it."""
    values = [value for figures in found if not math.isnan(value := getattr(figures, field))]
    return statistics.median(values) if values else math.nan


def cell(found: list[Figures]) -> str:
    """Return what the table shows of one server in one row."""
    if not math.isnan(kib := median(found, "kib")):
        return f"{kib:.1f} KiB"
    if math.isnan(rate := median(found, "rate")):
        return "—"
    busy = "¹" if median(found, "client") > BUSY else ""
    return f"{rate:,.0f}{busy}, {median(found, 'cpu'):,.0f} µs"


def ratio(own: list[Figures], other: list[Figures]) -> str:
    """Return how many times the other server's CPU time, or memory, is echod's."""
    for field in ("cpu", "kib"):
        if not math.isnan(value := median(other, field) / median(own, field)):
            return f"{value:.2f}"
    return "—"


def table(servers: list[Server], rows: list[Row], found: dict[tuple[str, str], list[Figures]]) -> str:
    """Return the table in Markdown."""
    first, *others = servers
    titles = [server.title for server in servers] + [f"{other.title} : {first.title}" for other in others]
    lines = [f"| | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    for row in rows:
        figures = [found.get((server.key, row.key), []) for server in servers]
        cells = [cell(one) for one in figures] + [ratio(figures[0], other) for other in figures[1:]]
        lines.append(f"| {row.title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.http2", description="Measure WebSockets over HTTP/2 beside other servers."
    )
    for name, known in (("--servers", PEERS), ("--rows", ROWS)):
        keys = [one.key for one in known]
        told = f"only these: {' '.join(keys)}"
        parser.add_argument(name, nargs="+", choices=keys, default=keys, metavar="KEY", help=told)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each cell, of which the median counts")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    return parser.parse_args()


def main() -> None:
    """Measure everything, and print the table."""
    wishes = arguments()
    raise_file_limit()
    versions, missing = ask_versions([server for server in PEERS if server.key in wishes.servers])
    here = [server for server in PEERS if server.key in versions]
    rows = [row for row in ROWS if row.key in wishes.rows]
    cores = choose_cores()
    found: dict[tuple[str, str], list[Figures]] = {}
    for turn in range(wishes.rounds):
        for row in rows:
            for server in rotated(here, turn):
                figures = measure(server, row, wishes.seconds, cores)
                found.setdefault((server.key, row.key), []).append(figures)
                told = figures.error or f"{cell([figures])}, clients {figures.client:.0%}"
                tell(f"round {turn + 1}  {row.key:12} {server.key:10} {told}")
    print(table(here, rows, found))
    print("\n".join(f"{server.title}: {versions[server.key]}" for server in here))
    print("\n".join(f"left out: {reason}" for reason in missing.values()))


if __name__ == "__main__":
    main()

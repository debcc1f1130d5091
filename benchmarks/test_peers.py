"""The servers beside which echod is measured echo right with every kind of traffic that they are measured with.

A server that is not there is left out of a benchmark, and so it is here. Peers from a registry are tested if they are
installed, which `make bench` does, or if nothing may be missing. Of these, Bun is tested only if it is installed: its
package has 100 MB.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import build, measure
from benchmarks.columns import COLUMNS, PING_SECONDS, Column
from benchmarks.process import Launch, Process, running
from benchmarks.servers import SERVERS, Server
from benchmarks.test_load import small
from tests.ports import held_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PEERS = [server for server in SERVERS if not server.key.startswith("echod")]
INSTALLED = {
    "uwebsockets": "uwebsockets-library/.stamp",
    "bun": "bun/node_modules/.stamp",
    "ws": "node/node_modules/.stamp",
    "picows": "venv/.stamp",
    "aiohttp": "venv/.stamp",
    "websockets": "venv/.stamp",
}
"""What a registry's packages leave in the build folder."""

TOO_LARGE = {"bun"}
"""Packages that no test installs."""

SECONDS = 0.1
KINDS = [
    ["small", "medium", "medium-text", "large", "fragments", "opens", "opens-echo", "pings", "storm"],
    ["deflate", "deflate-64k", "opens-browser"],
    ["takeover"],
    ["tls", "tls-64k", "opens-tls"],
]
"""Columns whose servers are started with the same options."""


def named(key: str) -> Column:
    """Return a column of the benchmark, made small."""
    return small(next(column for column in COLUMNS if column.key == key))


def or_skip(server: Server, columns: list[Column]) -> None:
    """Build the peer and its load generator, or skip the test if one is not to be had here."""
    stamp = INSTALLED.get(server.key)
    may_be_missing = os.environ.get("ECHOD_TEST_REQUIRE") != "all" or server.key in TOO_LARGE
    if stamp and not (build.BUILD / stamp).exists() and may_be_missing:
        pytest.skip("the servers that echod is compared with are not installed: make bench")
    try:
        server.version()
        for column in columns:
            build.load_generator(measure.features(column))
    except build.Unavailable as reason:
        pytest.skip(str(reason))


@contextmanager
def served(server: Server, column: Column, log: Path) -> Iterator[Process]:
    """Yield the running server with the options of a column."""
    with held_port() as port:
        cores = frozenset(os.sched_getaffinity(0))
        launch = Launch(server.command(port, column), server.environment(), build.ROOT, log, port, cores)
        with running(launch) as process:
            yield process


def outcome(process: Process, column: Column, seconds: float = SECONDS) -> measure.Outcome:
    """Load the server for a moment, and return the load generator's result."""
    cores = sorted(os.sched_getaffinity(0))
    plan = measure.Plan(seconds, 0.0, 1, 0.0, server_core=cores[-1], generator_core=cores[0])
    return measure.drive(column, process, plan)[0]


def case(server: Server, keys: list[str]) -> tuple[Server, list[Column]]:
    """Return a peer with those of the columns that it is measured with."""
    return server, [column for column in map(named, keys) if server.serves(column)]


CASES = [pair for server in PEERS for keys in KINDS if (pair := case(server, keys))[1]]


@pytest.mark.parametrize(("server", "columns"), CASES, ids=[f"{server.key}-{c[0].key}" for server, c in CASES])
def test_it_echoes_right(server: Server, columns: list[Column], tmp_path: Path) -> None:
    or_skip(server, columns)
    with served(server, columns[0], tmp_path / "log") as process:
        for column in columns:
            for seconds in (SECONDS, 20 * SECONDS, 200 * SECONDS):  # on a busy machine the first echo may take a while
                found = outcome(process, column, seconds)
                assert "error" not in found, (column.key, found)
                if float(found["messages"]) > 0:
                    break
            else:
                pytest.fail(f"{column.key}: not one message")


@pytest.mark.parametrize("server", [pytest.param(server, id=server.key) for server in PEERS if server.pings])
def test_it_pings_as_often_as_it_is_told(server: Server, tmp_path: Path) -> None:
    column = replace(named("pinged"), longer=1)
    or_skip(server, [column])
    with served(server, column, tmp_path / "log") as process:
        found = outcome(process, column, 2.25 * PING_SECONDS)
    assert "error" not in found
    # Timers of some servers tick every four seconds, and those of a busy machine are late.
    assert column.connections <= float(found["messages"]) <= 3 * column.connections

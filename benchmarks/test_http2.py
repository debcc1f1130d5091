"""The clients of `benchmarks.http2` notice what is wrong, and each server echoes right over HTTP/2."""

from __future__ import annotations

import math
import os
import struct
import subprocess
from dataclasses import replace

import pytest

from benchmarks import build, http2, http2_client
from benchmarks.http2 import PEERS, ROWS, Figures
from benchmarks.http2_client import CONNECT_PROTOCOL, DATA, END_HEADERS, HEADERS, OK, PREFACE, SETTINGS, Load, frame
from benchmarks.servers import Server
from tests.frames import BINARY, server_frame
from tests.loop import needed_native
from tests.odd_server import OddServer, Peer

INSTALLED = {"hypercorn": "venv/.stamp", "node": "node/node_modules/.stamp"}
CONNECT = frame(SETTINGS, 0, 0, struct.pack("!HL", CONNECT_PROTOCOL, 1))


def or_skip(key: str) -> None:
    """Skip the test if a peer is not installed, unless nothing may be missing. Benchmarks run echod with its express
    lane."""
    if key == "echod":
        needed_native()
    stamp = INSTALLED.get(key)
    if stamp and not (build.BUILD / stamp).exists() and os.environ.get("ECHOD_TEST_REQUIRE") != "all":
        pytest.skip("the servers that echod is compared with are not installed: make bench")


@pytest.mark.parametrize("server", [pytest.param(server, id=server.key) for server in PEERS])
def test_it_measures(server: Server) -> None:
    or_skip(server.key)
    cores = sorted(os.sched_getaffinity(0))
    for row in (row for row in ROWS if row.key in ("small", "tls", "large-frames", "idle")):
        found = http2.measure(server, replace(row, connections=min(row.connections, 10)), 0.1, (cores[-1], cores[0]))
        # Each stream has had a right echo by then. In a short time there may be no other.
        assert found.error in ("", "no echo came while it was measured"), row.key
        assert found.error or not math.isnan(found.kib if row.holds else found.rate)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        pytest.param(b"", "the server has closed a connection", id="no answer"),
        pytest.param(frame(HEADERS, END_HEADERS, 1, b"\x8d"), "a frame of type 1 with flags 4", id="not found"),
        pytest.param(
            frame(HEADERS, END_HEADERS, 1, OK) + frame(DATA, 0, 1, server_frame(BINARY, bytes(16))),
            "an echo that is not what was sent",
            id="another echo",
        ),
    ],
)
def test_what_is_wrong_ends_it(answer: bytes, complaint: str) -> None:
    def script(peer: Peer) -> None:
        peer.read_until(PREFACE)
        peer.send(CONNECT)
        peer.read_until(b":protocol")
        peer.send(answer)

    with OddServer(script) as server:
        load = Load(server.port, 1, 1, 16, 1.0, 0.0, [os.getpid()])
        done = subprocess.run(
            http2_client.command(load), cwd=build.ROOT, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 1
    assert done.stderr.startswith(complaint)


def test_the_table() -> None:
    rows, servers = [ROWS[0], ROWS[-1]], PEERS[:2]
    found = {
        ("echod", "small"): [Figures(1000.4, 20.0, 0.95), Figures(3000, 30.0, 0.95), Figures(2000, 25.0, 0.95)],
        ("hypercorn", "small"): [Figures(900, 50.0, 0.5)],
        ("echod", "idle-one"): [Figures(kib=2.0)],
        ("hypercorn", "idle-one"): [Figures(error="did not start")],
    }
    assert http2.table(servers, rows, found).splitlines()[2:] == [
        f"| {ROWS[0].title} | 2,000¹, 25 µs | 900, 50 µs | 2.00 |",
        f"| {ROWS[-1].title} | 2.0 KiB | — | — |",
    ]
    assert math.isnan(http2.median([], "rate"))

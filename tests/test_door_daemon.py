"""A real daemon whose clients all send the same request head: on each kind of port they are counted, listed, limited
and told of the end, whether Python or the pump has answered them.

Knows frames, HTTP and processes. Must never import the code that it tests.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from tests import metrics_text
from tests.client import Client, family
from tests.daemon import Daemon, wait_until
from tests.frames import CLOSE, Frame, close_payload, handshake
from tests.loop import needed_native

ADMIN = ("--admin", "tcp:0:interface=127.0.0.1")
LOOPBACK = "tcp:0:interface=127.0.0.1"

MOST = 20
"""Connections that the daemon may have. Of 20, one of two workers gets fewer than 2 once in 25,000 runs."""

KINDS = ("TCP", "Unix", "TCP by systemd", "Unix by systemd", "TCP, workers", "Unix, workers", "TCP by systemd, workers")

WAYS = {
    "the pump": ("1", ()),
    "Python, the pump": ("1", ("--max-connections-per-address", "1000")),
    "Python": ("0", ()),
}
"""What begins connections, and what serves them: ECHOD_NATIVE and options."""


@contextmanager
def serving(kind: str, way: str, folder: Path) -> Iterator[tuple[Daemon, Any]]:
    """Run a daemon, and yield it with the address to connect to."""
    lane, options = WAYS[way]
    if lane == "1":
        needed_native()
    options = (*options, *(("--workers", "2") if "workers" in kind else ("--max-connections", str(MOST))))
    path = folder / "socket"
    with ExitStack() as stack:
        sockets = []
        if "systemd" in kind:
            made = stack.enter_context(socket.socket(socket.AF_UNIX if "Unix" in kind else socket.AF_INET))
            made.bind(str(path) if "Unix" in kind else ("127.0.0.1", 0))
            made.listen(MOST)
            sockets.append(made)
        ports = () if sockets else (f"unix:{path}" if "Unix" in kind else LOOPBACK,)
        daemon = Daemon(*options, *ADMIN, ports=ports, sockets=sockets, env={"ECHOD_NATIVE": lane})
        stack.enter_context(daemon)
        yield daemon, str(path) if "Unix" in kind else daemon.address


def get(daemon: Daemon, path: str) -> str:
    with urlopen(daemon.admin_urls[0] + path, timeout=20) as answer:
        body: bytes = answer.read()
        return body.decode()


def samples(daemon: Daemon) -> dict[str, float]:
    return metrics_text.samples(get(daemon, "/metrics"))


def listed(daemon: Daemon) -> list[dict[str, Any]]:
    found = json.loads(get(daemon, "/connections"))
    assert found["total"] == len(found["connections"])
    return list(found["connections"])


def dial(target: Any) -> socket.socket:
    made = socket.socket(family(target))
    made.settimeout(60)
    made.connect(target)
    return made


@pytest.mark.parametrize(
    ("kind", "way"), [*((kind, "the pump") for kind in KINDS), ("TCP", "Python, the pump"), ("TCP", "Python")]
)
def test_connections_from_their_beginning_to_their_end(kind: str, way: str, tmp_path: Path) -> None:
    with serving(kind, way, tmp_path) as (daemon, target), ExitStack() as stack:
        clients = [Client(target) for _ in range(MOST)]
        for client in clients:
            stack.enter_context(client.socket)
        for client in clients:
            assert client.echo() == b"hello"
        numbers = samples(daemon)
        assert numbers["echod_connections_open"] == MOST
        served_by = "autobahn" if way == "Python" else "pump"
        assert numbers[f'echod_messages_received_total{{lane="{served_by}",type="text"}}'] == MOST
        told = listed(daemon)
        assert len(told) == MOST
        assert {(one["path"], one["state"], one["received"]["messages"]) for one in told} == {("/", "open", 1)}
        if "TCP" in kind:
            assert {one["peer"] for one in told} == {"{}:{}".format(*one.socket.getsockname()) for one in clients}
        if kind == "TCP, workers":  # each has a socket of its own
            assert len({one["process"] for one in told}) == 2
        if "workers" not in kind:
            with dial(target) as beyond:
                beyond.sendall(handshake())
                assert beyond.recv(4096).startswith(b"HTTP/1.1 503 ")
        ended = clients.pop()
        ended.close(1000)
        assert ended.frame() == Frame(CLOSE, close_payload(1000))
        assert ended.is_lost()
        wait_until(lambda: samples(daemon)['echod_closes_total{by="client",code="1000"}'] == 1, "the close to count")
        numbers = samples(daemon)
        assert numbers["echod_connections_open"] == len(clients)
        assert numbers['echod_connections_total{outcome="clean"}'] == 1
        assert numbers["echod_connection_duration_seconds_count"] == 1
        with dial(target) as silent:
            wait_until(lambda: "connecting" in {one["state"] for one in listed(daemon)}, "the visitor to be listed")
            daemon.send_signal(signal.SIGHUP)
            daemon.wait_for_log("reloaded")
            for client in clients:
                assert client.echo() == b"hello"
            daemon.send_signal(signal.SIGTERM)
            for client in clients:
                assert client.frame() == Frame(CLOSE, close_payload(1001, "going away"))
                assert client.leave() == b"", "the server closes first, in order"
            assert silent.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert daemon.wait() == 0
        assert ("connections begin in Python because of --max-connections-per-address" in daemon.log()) == (
            way == "Python, the pump"
        )

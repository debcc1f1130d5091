"""HTTP/2 with a real daemon, on every kind of endpoint."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

import pytest
from h2.errors import ErrorCodes

from tests.daemon import Daemon
from tests.frames import CLOSE, TEXT, Frame, client_frame, close_payload, handshake
from tests.h2_client import Goaway
from tests.h2_socket import Connection

KINDS = ["plain", "unix", "TLS", "PROXY", "PROXY and TLS"]


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_endpoint(kind: str, options: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    port = {
        "plain": "tcp:0:interface=127.0.0.1",
        "unix": f"unix:{path}",
        "TLS": "throwaway:0:interface=127.0.0.1",
        "PROXY": "haproxy:tcp:0:interface=127.0.0.1",
        "PROXY and TLS": "haproxy:throwaway:0:interface=127.0.0.1",
    }[kind]
    with Daemon(*options, ports=[port]) as daemon:
        first = b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n" if "PROXY" in kind else b""
        target = str(path) if kind == "unix" else daemon.address
        made = Connection(target, "TLS" in kind, first)
        with made.socket:
            made.until(made.client.says_connect)
            one, two = made.open(), made.open("/info")
            info = made.frame(two).payload
            made.client.send(one, client_frame(TEXT, b"hello"))
            assert made.frame(one) == Frame(TEXT, b"hello")
            assert b'"http": {"version": "2", "stream": 3, ' in info
            assert (b'"address": "192.0.2.7"' in info) == ("PROXY" in kind)
            made.client.send(one, client_frame(CLOSE, close_payload(1000)), is_last=True)
            made.until(lambda: one in made.client.ended)


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "workers"])
def test_a_fault_of_every_connection_that_http_2_does_not_have(options: tuple[str, ...]) -> None:
    """Clients open their WebSockets over HTTP/1.1, because none are offered over HTTP/2, and meet the fault there."""
    with Daemon(*options, "--fault", "accept=missing") as daemon:
        made = Connection(daemon.address, False)
        with made.socket:
            made.until(lambda: made.client.settings)
            assert not made.client.says_connect()
        with socket.create_connection(daemon.address, 60) as client:
            client.sendall(handshake("/"))
            answer = client.recv(4096)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert b"Sec-WebSocket-Accept" not in answer


def test_each_worker_has_the_limits() -> None:
    """The kernel chooses the worker. Of 20 connections, one of two workers gets none once in half a million runs."""
    with Daemon("--workers", "2", "--http2-limit", "max-pings=3") as daemon:

        def send_too_many_pings() -> int:
            """Return the process that has ended the connection."""
            made = Connection(daemon.address, False)
            with made.socket:
                number = made.open("/info")
                process: int = json.loads(made.frame(number).payload)["process"]
                for _ in range(4):
                    made.client.h2.ping(bytes(8))
                made.until(lambda: made.client.goaway)
                assert made.client.goaway == Goaway(number, ErrorCodes.ENHANCE_YOUR_CALM, "too many PING frames")
            return process

        assert len({send_too_many_pings() for _ in range(20)}) == 2


def test_a_drain() -> None:
    with Daemon(ports=["tcp:0:interface=127.0.0.1", "throwaway:0:interface=127.0.0.1"]) as daemon:
        made = Connection(daemon.address, False)
        with made.socket:
            one = made.open()
            daemon.send_signal(signal.SIGTERM)
            assert made.frame(one) == Frame(CLOSE, close_payload(1001, "going away"))
            assert made.client.goaway is not None
            made.client.send(one, client_frame(CLOSE, close_payload(1001)), is_last=True)
            made.until(lambda: one in made.client.ended)
            assert made.socket.recv(1) == b""
        daemon.wait()


def test_the_preface_in_two_reads() -> None:
    """The door passes on a head that it does not remember, with what was read of it."""
    with Daemon() as daemon:
        made = Connection(daemon.address, False)
        with made.socket:
            octets = made.client.to_send()
            for start, end in ((0, 5), (5, 18), (18, 20), (20, len(octets))):
                made.socket.sendall(octets[start:end])
                if end < 18:  # the whole head, after which the server sends its settings
                    made.socket.settimeout(0.05)
                    with pytest.raises(TimeoutError):
                        made.socket.recv(1)
            made.socket.settimeout(60)
            made.until(made.client.says_connect)

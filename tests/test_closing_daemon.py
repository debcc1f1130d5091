"""Slow but honest readers of a real daemon: whichever end closes, they get all that was echoed, within a time limit.

Knows frames and sockets. Must never import the code that it tests.
"""

from __future__ import annotations

import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from tests.client import family, upgrade
from tests.daemon import Daemon, wait_until
from tests.frames import BINARY, CLOSE, TEXT, client_frame, close_payload, server_frame
from tests.loop import needed_native
from tests.tls import Certificate

PAYLOAD = random.Random(1).randbytes(8 << 20)
"""Twice the bytes that the kernel takes for a peer that does not read."""

PIECE = 1 << 16
PAUSE = 0.05
"""A reader takes `PIECE` bytes, then waits `PAUSE` seconds. The whole payload takes 6.4 s."""

CLOSE_TIMEOUT = ("--close-timeout", "2s")

KINDS = ("TCP", "TLS", "Unix", "PROXY")


class Seen(NamedTuple):
    """What came after the opening handshake."""

    octets: bytes
    has_ended_well: bool
    """Whether the connection ended without a reset."""


@contextmanager
def daemon(certificate: Certificate, lane: str, *options: str) -> Iterator[Daemon]:
    if lane == "1":
        needed_native()
    loopback = "0:interface=127.0.0.1"
    ports = (
        f"tcp:{loopback}",
        f"ssl:{loopback}:privateKey={certificate.path}",
        "unix:echod.sock",
        f"haproxy:tcp:{loopback}",
    )
    with Daemon(*CLOSE_TIMEOUT, *options, ports=ports, env={"ECHOD_NATIVE": lane}) as started:
        yield started


def connect(started: Daemon, kind: str, certificate: Certificate) -> Any:
    """Return an open connection with a small receive buffer."""
    url = started.urls[KINDS.index(kind)]
    target: Any = str(started.folder / "echod.sock") if kind == "Unix" else ("127.0.0.1", int(url.rpartition(":")[2]))
    plain = socket.socket(family(target))
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
    plain.settimeout(60)
    plain.connect(target)
    if kind == "PROXY":
        plain.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n")
    made = certificate.client().wrap_socket(plain, server_hostname="localhost") if kind == "TLS" else plain
    upgrade(made)
    return made


def read(connection: Any, has_begun: Callable[[], object] = bool) -> Seen:
    """Read slowly to the end. Call `has_begun` when the first bytes have come."""
    seen = bytearray()
    try:
        while octets := connection.recv(PIECE):
            if not seen:
                has_begun()
            seen += octets
            time.sleep(PAUSE)  # as slow as the reader is to be, not for luck
    except OSError:
        return Seen(bytes(seen), False)
    finally:
        connection.close()
    return Seen(bytes(seen), True)


def in_parallel(act: Callable[[str], Seen]) -> list[Seen]:
    with ThreadPoolExecutor(len(KINDS)) as pool:
        return list(pool.map(act, KINDS))


lanes = pytest.mark.parametrize("lane", ["1", "0"], ids=["lane", "autobahn"])

ECHO = server_frame(BINARY, PAYLOAD)

ENDINGS = {
    "a Close": (client_frame(CLOSE, close_payload(1000)), server_frame(CLOSE, close_payload(1000))),
    "an invalid frame": (client_frame(TEXT, b"x", rsv=7), b"RSV = 7"),
}


@lanes
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_slow_reader_gets_all_that_came_before_the_close(lane: str, ending: str, certificate: Certificate) -> None:
    last, answer = ENDINGS[ending]
    with daemon(certificate, lane) as started:

        def act(kind: str) -> Seen:
            connection = connect(started, kind, certificate)
            connection.sendall(client_frame(BINARY, PAYLOAD) + last)
            return read(connection)

        for seen in in_parallel(act):
            assert seen.octets[: len(ECHO)] == ECHO
            assert answer in seen.octets[len(ECHO) :]
            assert seen.has_ended_well


@lanes
def test_a_slow_reader_has_until_the_end_of_a_drain(lane: str, certificate: Certificate) -> None:
    with daemon(certificate, lane, "--max-close-time", "2s", "--drain-timeout", "2m") as started:
        started_to_read = []

        def act(kind: str) -> Seen:
            connection = connect(started, kind, certificate)
            connection.sendall(client_frame(BINARY, PAYLOAD))
            return read(connection, lambda: started_to_read.append(kind))

        with ThreadPoolExecutor(len(KINDS)) as pool:
            found = [pool.submit(act, kind) for kind in KINDS]
            wait_until(lambda: len(started_to_read) == len(KINDS), "the readers")
            started.send_signal(signal.SIGTERM)
            for seen in found:
                assert seen.result().octets[: len(ECHO)] == ECHO
                assert seen.result().octets[len(ECHO) :] == server_frame(CLOSE, close_payload(1001, "going away"))
        assert started.wait() == 0


@lanes
def test_the_wait_for_a_reader_ends(lane: str, certificate: Certificate) -> None:
    with daemon(certificate, lane, "--max-close-time", "3s") as started:

        def act(kind: str) -> Seen:
            connection = connect(started, kind, certificate)
            connection.sendall(client_frame(BINARY, PAYLOAD) + ENDINGS["a Close"][0])
            return read(connection)

        for seen in in_parallel(act):
            assert len(seen.octets) < len(ECHO)

"""``python -m tests.reliability.crowd HOST PORT SOURCE COUNT``: idle clients in a process of their own, which has
a limit on descriptors of its own.

It opens COUNT connections from the address SOURCE, or as many as it can in `PATIENCE`, and prints how many. It answers
each Close frame. When all connections have ended, it prints a JSON object: how many clients got a Close frame with each
code, or none.

Knows frames. Must never import echod.
"""

from __future__ import annotations

import json
import math
import resource
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import frames
from tests.ports import connect_from

ROOT = Path(__file__).parents[2]

PATIENCE = 120.0
"""Seconds in which all connections are opened, or no more of them. It bounds the time of a test on a busy machine."""

OWN = 100
"""Descriptors of a process that are not for connections."""


def serve(address: tuple[str, int], source: str, count: int) -> None:
    """Be `count` clients until all connections have ended."""
    poll = select.epoll()
    clients: dict[int, socket.socket] = {}
    end = time.monotonic() + PATIENCE
    while len(clients) < count and time.monotonic() < end:
        client = open_one(address, source)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
    print(len(clients), flush=True)
    told: dict[int, int] = {}
    codes: Counter[str] = Counter()
    while clients:
        for descriptor, _ in poll.poll():
            client = clients[descriptor]
            octets = receive(client)
            if not octets:
                codes[str(told.pop(descriptor, None))] += 1
                del clients[descriptor]
                client.close()
            elif descriptor not in told:
                taken = frames.take(bytearray(octets), is_masked=False)
                assert taken is not None, octets
                frame, _ = taken
                assert frame.opcode == frames.CLOSE, octets
                told[descriptor] = int.from_bytes(frame.payload[:2], "big")
                client.send(frames.client_frame(frames.CLOSE, frame.payload))
    print(json.dumps(codes), flush=True)


def open_one(address: tuple[str, int], source: str) -> socket.socket:
    client = connect_from(source, address, 60)
    client.sendall(frames.handshake())
    head = client.recv(4096)
    assert head.startswith(b"HTTP/1.1 101 "), head
    client.setblocking(False)
    return client


def receive(client: socket.socket) -> bytes:
    """Return what has come; nothing at the end of the connection, also by a reset."""
    with suppress(ConnectionResetError):
        return client.recv(4096)
    return b""


class Crowd:
    """A context manager: many clients, in as many processes as that takes."""

    def __init__(self, address: tuple[str, int], count: int) -> None:
        """Connect `count` clients, or as many as can in `PATIENCE`. Returns when all opening handshakes are over."""
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        processes = math.ceil(count / (most - OWN))
        self._processes = []
        self.count = 0
        """How many are connected."""
        try:
            for number in range(processes):
                # From each address there are ports for some 28,000 connections.
                source = f"127.0.1.{number + 1}"
                share = count // processes + (number < count % processes)
                command = [sys.executable, "-m", __name__, *map(str, (*address, source, share))]
                self._processes.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
            for process in self._processes:
                assert process.stdout is not None
                self.count += int(process.stdout.readline())
        except BaseException:
            self._stop()
            raise

    def codes(self) -> Counter[str]:
        """Wait until all connections have ended. Return how many clients got a Close frame with each code; `None`: got
        none."""
        found: Counter[str] = Counter()
        for process in self._processes:
            told, _ = process.communicate()
            found.update(json.loads(told))
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in self._processes:
            assert process.stdout is not None
            process.kill()
            process.wait()
            process.stdout.close()


if __name__ == "__main__":
    host, port, source, count = sys.argv[1:]
    serve((host, int(port)), source, int(count))

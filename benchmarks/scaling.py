"""``python -m benchmarks.scaling``: measures what an idle connection costs in memory, handshake and pings, for
docs/scaling.md.

Many connections over loopback are opened to one daemon: plain, with TLS, and to a daemon with two workers that share
one core. Then there are 50,000, to as many workers as the limit on open files takes. The plain ones are guests of the
door, except for the first of each process. Memory is the proportional set size of the daemon's processes, and the
growth of the kernel's caches for sockets. These caches contain both ends of each connection, so half counts for the
server. CPU time is what the kernel charges to the daemon's processes.

Knows: one daemon, and many clients that only answer pings. Must never know: other servers and rates, which the other
benchmarks measure.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import select
import socket
import ssl
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from benchmarks import build
from benchmarks.measure import SETTLE_SECONDS, choose_cores, raise_file_limit
from benchmarks.process import HOST, Launch, Process, memory_of, on_cores, running
from tests.ports import connect_from, held_port

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)

PONG = b"\x8a\x80\x00\x00\x00\x00"
"""A pong without a payload. Any byte is a sign of life."""

CACHES = ("TCP ", "sock_inode_cache ", "filp ", "eventpoll_epi ", "ep_head ", "lsm_inode_cache ")
"""The kernel's slabs with one object for each socket."""

DENTRY = 192
"""Bytes of a socket's dentry. The growth of its slab shows nothing, because other dentries come and go in it."""


WORKERS = 2

OWN_FILES = 200
"""Open files of a process that are not connections."""

MOST_FROM_ADDRESS = 20_000
"""Connections from one address, which has some 28,000 ports. Each process of clients has an address of its own."""

SPREAD = 1.2
"""How many times its share of connections a worker may get from the kernel."""

READY = "max-message-size"
"""The end of a start's last line, which comes when all workers serve."""


@dataclass(frozen=True)
class Look:
    """The daemon at one moment: KiB of each process, bytes in the kernel's slabs, seconds of CPU time."""

    processes: tuple[int, ...]
    kernel: int
    cpu: float

    @property
    def own(self) -> int:
        """KiB of all processes together."""
        return sum(self.processes)


def look(pids: list[int]) -> Look:
    """Look at a daemon's processes and at the kernel."""
    ticks = sum(processor_time(pid) for pid in pids)
    memory = tuple(memory_of([pid]).pss for pid in pids)
    return Look(memory, slab_octets(Path("/proc/slabinfo").read_text()), ticks / os.sysconf("SC_CLK_TCK"))


def processor_time(pid: int) -> int:
    """Return the clock ticks that the kernel has charged to a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def slab_octets(slabinfo: str) -> int:
    """Return the bytes of the used objects in the relevant caches. `slabinfo` is the kernel's table."""
    rows = [line.split() for line in slabinfo.splitlines() if line.startswith(CACHES)]
    return sum(int(active) * int(size) for _, active, _, size, *_ in rows)


# The clients, in a process of their own.


def serve_pings(port: int, count: int, source: str, certificate: str | None, orders: IO[str], answers: IO[str]) -> None:
    """Open `count` connections from the address `source`, and print that. For each order print how many pings were
    answered. End with the orders."""
    context = ssl.create_default_context(cafile=certificate) if certificate else None
    poll, clients, pings = select.epoll(), {}, 0
    for _ in range(count):
        client = open_one(port, source, context)
        clients[client.fileno()] = client
        poll.register(client, select.EPOLLIN)
    poll.register(orders, select.EPOLLIN)
    print("open", file=answers, flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == orders.fileno():
                if not orders.readline():
                    return
                print(pings, file=answers, flush=True)
            elif answer_ping(clients[descriptor]):
                pings += 1


def open_one(port: int, source: str, context: ssl.SSLContext | None) -> socket.socket:
    client = connect_from(source, (HOST, port), 10)
    if context is not None:
        client = context.wrap_socket(client, server_hostname="localhost")
    client.sendall(HANDSHAKE)
    answer = client.recv(4096)
    if not answer.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"no WebSocket: {answer!r}")
    return client


def answer_ping(client: socket.socket) -> bool:
    """Answer a ping. Return False if the bytes belong to TLS alone, and contain no ping."""
    try:
        client.settimeout(0)
        if not client.recv(4096):
            raise SystemExit("the daemon closed a connection")
        client.settimeout(10)
    except ssl.SSLWantReadError:
        return False
    client.sendall(PONG)
    return True


class Clients:
    """The processes of the clients: as many as the limit on open files takes."""

    def __init__(self, port: int, count: int, certificate: Path | None, core: int) -> None:
        processes = max(processes_for(count, 1.0), math.ceil(count / MOST_FROM_ADDRESS))
        self._processes = []
        for number in range(processes):
            share = count // processes + (number < count % processes)
            command = [sys.executable, "-m", "benchmarks.scaling", "--clients", str(share), "--port", str(port)]
            command += ["--source", f"127.0.0.{number + 1}"]
            command += ["--certificate", str(certificate)] if certificate else []
            with on_cores({core}):
                self._processes.append(
                    subprocess.Popen(command, cwd=build.ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                )
        if [self._answer(process) for process in self._processes] != ["open\n"] * processes:
            raise SystemExit("benchmarks: not all clients could connect")

    @staticmethod
    def _answer(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline()

    def pings(self) -> int:
        """Return the number of pings that the clients have answered."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        return sum(int(self._answer(process)) for process in self._processes)

    def stop(self) -> None:
        """Close all connections."""
        for process in self._processes:
            process.kill()
            process.communicate()


def processes_for(count: int, spread: float) -> int:
    """Return how many processes have open files for so many connections, if one gets `spread` times its share."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.ceil(count * spread / (most - OWN_FILES))


# The measurement.


@dataclass(frozen=True)
class Cost:
    """The cost of one idle connection, and of the daemon without connections."""

    processes: tuple[int, ...]
    """KiB of each process before the first connection, with the parent first."""
    own: float
    """KiB in the daemon."""
    kernel: float
    """KiB in the kernel at the server's end."""
    handshake: float
    """Microseconds of CPU time to open the connection."""
    ping: float
    """Microseconds of CPU time for a ping, its pong, and the checks between pings."""
    pings: int


def measure(process: Process, count: int, certificate: Path | None, seconds: float, core: int) -> Cost:
    pids = process.pids()
    before = look(pids)
    clients = Clients(process.port, count, certificate, core)
    try:
        time.sleep(SETTLE_SECONDS)
        opened, pings = look(pids), clients.pings()
        time.sleep(seconds)
        after, pings = look(pids), clients.pings() - pings
    finally:
        clients.stop()
    return Cost(
        processes=before.processes,
        own=(opened.own - before.own) / count,
        kernel=((opened.kernel - before.kernel) / 2 / count + DENTRY) / 1024,
        handshake=(opened.cpu - before.cpu) / count * 1e6,
        ping=(after.cpu - opened.cpu) / max(1, pings) * 1e6,
        pings=pings,
    )


def daemon(
    folder: Path, port: int, certificate: tuple[Path, Path] | None, workers: int, interval: float, core: int
) -> Launch:
    endpoint = f"tcp:{port}:interface={HOST}"
    if certificate is not None:
        endpoint = f"ssl:{port}:interface={HOST}:certKey={certificate[0]}:privateKey={certificate[1]}"
    twistd = Path(sysconfig.get_path("scripts")) / "twistd"
    options = [
        "--port",
        endpoint,
        "--ping-interval",
        f"{interval:g}s",
        "--compression",
        "off",
        "--workers",
        str(workers),
    ]
    return Launch(
        [str(twistd), "-n", "--pidfile=", "echod", *options], {}, folder, folder / "log", port, frozenset({core}), READY
    )


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling", description="Measure what a waiting connection costs."
    )
    parser.add_argument("--connections", type=int, default=10_000, help="number of plain connections; TLS gets a fifth")
    parser.add_argument("--many", type=int, default=50_000, help="number of plain connections of the last measurement")
    parser.add_argument("--seconds", type=float, default=60, help="seconds for which pings are counted")
    parser.add_argument("--interval", type=float, default=20, help="the daemon's --ping-interval, in seconds")
    for name in ("--clients", "--port", "--source", "--certificate"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure everything, and print a line for each measurement."""
    wishes = arguments()
    raise_file_limit()
    if wishes.clients:
        serve_pings(int(wishes.port), int(wishes.clients), wishes.source, wishes.certificate, sys.stdin, sys.stdout)
        return
    server_core, client_core = choose_cores()
    some, many = wishes.connections, wishes.many
    for count, certificate, workers in (
        (some, None, 1),
        (some // 5, build.certificate(), 1),
        (some, None, WORKERS),
        (many, None, max(WORKERS, processes_for(many, SPREAD))),
    ):
        with tempfile.TemporaryDirectory(prefix="echod-scaling-") as folder, held_port() as port:
            launch = daemon(Path(folder), port, certificate, workers, wishes.interval, server_core)
            with running(launch) as process:
                cost = measure(process, count, certificate and certificate[0], wishes.seconds, client_core)
        what = (
            f"{count:,} connections"
            + (" with TLS" if certificate else "")
            + (f" to {workers} workers" if workers > 1 else "")
        )
        memory = f"{cost.own:.2f} KiB in the daemon, {cost.kernel:.2f} KiB in the kernel"
        times = f"{cost.handshake:.0f} us to open, {cost.ping:.1f} us for each of {cost.pings:,} pings"
        empty = " + ".join(f"{kib / 1024:.1f}" for kib in cost.processes)
        print(f"{what}: {memory}, {times}; without any {empty} MiB", flush=True)


if __name__ == "__main__":
    main()

"""The wall clock is set while a real daemon runs: no deadline moves with it, under any reactor.

A small library changes the wall clock for the daemon's processes only. Knows processes and frames. Must never import
the code that it tests.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.client import Client
from tests.daemon import START_DEADLINE, Daemon, run, wait_until
from tests.frames import CLOSE, PING, TEXT, client_frame, handshake
from tests.tools import needed

HOUR = 3600

SHORT = (
    "--handshake-timeout",
    "1s",
    "--ping-interval",
    "1s",
    "--ping-timeout",
    "60s",
    "--close-timeout",
    "1s",
    "--drain-timeout",
    "2s",
)
"""Short deadlines that a test waits for."""

PATIENCE = 30.0
"""Time limit in seconds for what takes one. The clock is set by at least twice this time."""

LONG = ("--handshake-timeout", "50m", "--ping-interval", "50m", "--ping-timeout", "50m")
"""Long deadlines that could pass only if the clock were set."""


class Manager:
    """A service manager that receives a daemon's notifications, and expects a sign of life every second."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": "1000000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.environment["NOTIFY_SOCKET"])

    def wait_for_signs_of_life(self, count: int) -> None:
        """Return when `count` further signs of life have come. The daemon sends two in a second."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(4096)
        except BlockingIOError:
            self._socket.settimeout(PATIENCE)
        while count:
            count -= b"WATCHDOG=1" in self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()


class Clock:
    """The wall clock of a daemon that is started with `environment`."""

    def __init__(self, folder: Path, library: Path) -> None:
        self._file = folder / "shift"
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_SHIFT": str(self._file)}

    def shift(self, seconds: int) -> None:
        """Set the clock forward, or back if `seconds` is negative."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(self._file)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(tmp_path_factory.mktemp("clock")) / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    built = run(needed("gcc"), "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", str(path), str(source))
    assert built.returncode == 0, built.stderr
    return path


@pytest.fixture
def clock(tmp_path: Path, library: Path) -> Clock:
    return Clock(tmp_path, library)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


def start(clock: Clock, manager: Manager, *options: str, **how: Any) -> Daemon:
    return Daemon(*options, env={**clock.environment, **manager.environment}, **how)


HOW: dict[str, dict[str, Any]] = {
    "epoll": {"reactor": "epoll"},
    "poll": {"reactor": "poll"},
    "select": {"reactor": "select"},
    "asyncio": {"reactor": "asyncio"},
    "twist": {"program": "twist"},
    "daemonized": {"is_daemonized": True},
}
"""Each reactor, and each program that creates a reactor before it calls echod."""

either_way = pytest.mark.parametrize("how", HOW.values(), ids=HOW)


def assert_deadlines_hold(daemon: Daemon, manager: Manager, set_clock: Callable[[], None]) -> None:
    """Assert that a handshake times out, a silent client is pinged, a close times out, and the service manager gets
    signs of life."""
    with socket.create_connection(daemon.address, START_DEADLINE) as never, Client(daemon.address).socket as silent:
        closing = Client(daemon.address)
        # All deadlines have begun by now.
        never.sendall(b"GET / HTTP/1.1\r\n")
        closing.socket.sendall(client_frame(TEXT, b"x", rsv=7))
        assert closing.frame().opcode == CLOSE
        assert closing.is_lost(), "the daemon has not ended the connection"
        set_clock()
        manager.wait_for_signs_of_life(3)
        for late in (silent, never):
            late.settimeout(PATIENCE)
        assert silent.recv(1) == bytes([0x80 | PING])
        with pytest.raises(ConnectionResetError):
            never.recv(1)
        wait_until(lambda: has_reset(closing.socket), "a reset", PATIENCE)
        closing.socket.close()


def has_reset(connection: socket.socket) -> bool:
    """Tell whether the other end has reset a connection. The kernel reports this once, and after a FIN by this
    number."""
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.EPIPE


@either_way
@pytest.mark.parametrize("seconds", [-HOUR, -60], ids=["an hour", "a minute"])
def test_a_clock_set_back_stops_no_deadline(how: dict[str, Any], seconds: int, clock: Clock, manager: Manager) -> None:
    with start(clock, manager, *SHORT, **how) as daemon:
        assert_deadlines_hold(daemon, manager, lambda: clock.shift(seconds))
        with Client(daemon.address).socket:  # this client never answers a Close frame, and ends with the drain
            daemon.stop()


@either_way
def test_a_clock_set_forward_shortens_no_deadline(how: dict[str, Any], clock: Clock, manager: Manager) -> None:
    with (
        start(clock, manager, *LONG, **how) as daemon,
        socket.create_connection(daemon.address, START_DEADLINE) as opening,
    ):
        idle = Client(daemon.address)
        head = handshake("/")
        opening.sendall(head[:20])
        idle.echo()
        clock.shift(2 * HOUR)
        manager.wait_for_signs_of_life(3)  # meanwhile the deadlines are checked ten times
        opening.sendall(head[20:])
        assert opening.recv(4096).startswith(b"HTTP/1.1 101 ")
        assert idle.echo() == b"hello"
        idle.close()
        assert idle.frame().opcode == CLOSE
        idle.socket.close()


def test_the_log_has_the_time_of_the_wall_clock(clock: Clock, manager: Manager) -> None:
    clock.shift(-30 * 24 * HOUR)
    with start(clock, manager, "--log-format", "json") as daemon:
        match = daemon.wait_for_log(r'"time": ?"(\d{4}-\d\d-\d\d)')
        expected = datetime.now(UTC) - timedelta(days=30)
        assert abs(datetime.fromisoformat(match[1]).replace(tzinfo=UTC) - expected) < timedelta(days=2)


def test_workers_and_their_parent_ignore_a_set_clock(clock: Clock, manager: Manager) -> None:
    with start(clock, manager, "--workers", "2", *SHORT) as daemon:
        assert_deadlines_hold(daemon, manager, lambda: clock.shift(-HOUR))
        victim = int(Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0])
        os.kill(victim, signal.SIGKILL)
        daemon.wait_for_log("the next starts in")
        wait_until(
            lambda: len(Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()) == 2,
            "another worker",
        )
        clock.shift(2 * HOUR)
        manager.wait_for_signs_of_life(3)
        assert "has not answered" not in daemon.log()
        client = Client(daemon.address)
        with client.socket:
            assert client.echo() == b"hello"

"""Messages to systemd, on a real datagram socket with Twisted's test clock, and the sockets that systemd passes."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from echod.run import systemd
from echod.run.systemd import STATUS_INTERVAL, STOP_MARGIN, Notifier, expand, name_domain, take


class Manager:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def messages(self) -> list[list[str]]:
        """Return the messages since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode().split("\n"))
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@echod-test-{os.getpid()}"
    manager = Manager(address)
    yield manager
    manager.close()


def test_a_service_from_start_to_end(manager: Manager) -> None:
    environment = {
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": "4000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    clock, figures = Clock(), ["no figures"]
    notifier = take(environment)
    assert environment == {"HOME": "/"}, "a child process has nothing to tell"
    assert manager.messages() == []
    notifier.start(clock, lambda: figures[0])
    assert manager.messages() == [["READY=1", "STATUS=no figures", "WATCHDOG=1"]]
    figures[0] = "other figures"
    clock.advance(1.9)
    assert manager.messages() == []
    clock.advance(0.1)
    assert manager.messages() == [["READY=1", "STATUS=other figures", "WATCHDOG=1"]], "at half of the time"
    notifier.stopping(10)
    assert manager.messages() == [
        [f"EXTEND_TIMEOUT_USEC={round((10 + STOP_MARGIN) * 1_000_000)}"],
        ["STOPPING=1", "STATUS=other figures", "WATCHDOG=1"],
    ]
    clock.advance(2)
    assert manager.messages() == [["STOPPING=1", "STATUS=other figures", "WATCHDOG=1"]], "a drain is no stuck loop"
    notifier.stop()
    assert not clock.getDelayedCalls()
    notifier.stop()
    notifier.stopping(10)
    assert manager.messages() == []


def test_a_reload(manager: Manager) -> None:
    clock = Clock()
    done: list[Any] = []
    notifier = Notifier(manager.address)
    notifier.start(clock, str)
    assert manager.messages() == [["READY=1", "STATUS="]]
    before = time.clock_gettime(time.CLOCK_MONOTONIC)
    work: Deferred[None] = Deferred()

    def begin() -> Deferred[None]:
        done.append(manager.messages())
        return work

    told = notifier.reload(begin)
    after = time.clock_gettime(time.CLOCK_MONOTONIC)
    (((reloading, at),),) = done
    assert reloading == "RELOADING=1"
    assert before <= int(at.removeprefix("MONOTONIC_USEC=")) / 1e6 + 1e-6
    assert int(at.removeprefix("MONOTONIC_USEC=")) / 1e6 <= after
    assert manager.messages() == []
    work.callback(None)
    assert told.called
    assert manager.messages() == [["READY=1", "STATUS="]]
    failures: list[Failure] = []
    notifier.reload(lambda: fail(ZeroDivisionError())).addErrback(failures.append)
    assert failures[0].check(ZeroDivisionError)
    assert manager.messages()[1:] == [["READY=1", "STATUS="]], "a reload that failed is over, too"
    late: Deferred[None] = Deferred()
    notifier.reload(lambda: late)
    notifier.stop()
    manager.messages()
    late.callback(None)
    assert manager.messages() == []


def test_before_it_is_ready_only_the_end_is_told(manager: Manager) -> None:
    notifier = Notifier(manager.address)
    assert notifier.reload(lambda: succeed(1)).called
    assert manager.messages() == []
    notifier.stopping(1)
    assert manager.messages()[1] == ["STOPPING=1", "STATUS="]
    notifier.stop()


@pytest.mark.parametrize(
    ("environment", "interval"),
    [
        ({}, STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "3000000"}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 1.5),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "60000000"}, STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "0"}, STATUS_INTERVAL),
        ({"WATCHDOG_USEC": "soon"}, STATUS_INTERVAL),
    ],
)
def test_how_often_the_state_is_told(environment: dict[str, str], interval: float, tmp_path: Path) -> None:
    manager, clock = Manager(str(tmp_path / "notify")), Clock()
    notifier = take({"NOTIFY_SOCKET": manager.address, **environment})
    notifier.start(clock, str)
    manager.messages()
    (call,) = clock.getDelayedCalls()
    assert call.getTime() == interval
    clock.advance(interval)
    is_watched = (
        environment.get("WATCHDOG_USEC", "soon") not in ("0", "soon") and environment.get("WATCHDOG_PID") != "1"
    )
    assert manager.messages() == [["READY=1", "STATUS=", *(["WATCHDOG=1"] if is_watched else [])]]
    notifier.stop()
    manager.close()


def test_without_systemd_nothing_happens() -> None:
    clock = Clock()
    notifier = take({})
    notifier.start(clock, str)
    assert not clock.getDelayedCalls()
    assert notifier.reload(lambda: succeed(1)).called
    notifier.stopping(10)
    notifier.stop()


def test_a_message_that_cannot_be_sent_does_no_harm(tmp_path: Path) -> None:
    clock = Clock()
    notifier = Notifier(str(tmp_path / "nobody"), watchdog=2)
    notifier.start(clock, str)
    manager = Manager(str(tmp_path / "nobody"))
    clock.advance(1)
    assert manager.messages() == [["READY=1", "STATUS=", "WATCHDOG=1"]], "made up for"
    clock.pump([1] * 2000)
    assert len(manager.messages()) < 2000, "its queue was full, and nobody waited"
    manager.close()
    clock.advance(1)
    notifier.stop()


def test_the_variables_are_removed_from_the_environment() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:b"}
    take(environment)
    assert environment == {}


# Sockets.


@pytest.mark.parametrize(
    ("family", "address", "name"),
    [(socket.AF_INET, ("127.0.0.1", 0), "INET"), (socket.AF_INET6, ("::1", 0), "INET6"), (socket.AF_UNIX, "", "UNIX")],
)
def test_the_family_of_a_socket(family: socket.AddressFamily, address: Any, name: str) -> None:
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        assert name_domain(listener.fileno()) == name
        assert listener.getsockname() is not None, "it is still open"


def test_another_descriptor_is_refused() -> None:
    reader, writer = os.pipe()
    with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        for descriptor in (reader, stream.fileno(), datagram.fileno()):
            with pytest.raises(ValueError, match="is not a listening stream socket"):
                name_domain(descriptor)
    os.close(reader)
    os.close(writer)


def test_systemd_stands_for_all_sockets() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as first,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as second,
    ):
        passed = [first.fileno(), second.fileno()]
        assert expand("systemd", passed) == ["systemd:domain=INET:index=0", "systemd:domain=INET6:index=1"]
        assert expand("haproxy:systemd", passed, "haproxy:") == [
            f"haproxy:{text}" for text in expand("systemd", passed)
        ]
        assert expand("tcp:80", passed) == ["tcp:80"]
    with pytest.raises(ValueError, match="systemd passed none"):
        expand(systemd.ALL, [])

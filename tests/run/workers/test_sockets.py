"""The sockets of the workers: which are shared, and who listens on the others."""

from __future__ import annotations

import socket
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import serverFromString

from echod.run.process import CannotStartError
from echod.run.workers.sockets import is_own_tcp, make_sibling
from tests.run.test_service import REAL
from tests.run.workers.played import PORT, Reactor, Started, make


@pytest_twisted.inlineCallbacks
def test_a_socket_for_each_or_one_for_all(tmp_path: Path, lines: list[str]) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    admin = [(PORT, serverFromString(REAL, PORT))]
    started = Started(PORT, "tcp:0:interface=\\:\\:1", f"unix:{path}", admin_endpoints=admin)
    assert sum("listening on" in line for line in lines) == 3
    first, second = started.processes
    assert first.role is not None
    assert second.role is not None
    assert (first.role.index, second.role.index) == (0, 1)
    assert [descriptor for _, descriptor in first.role.ports] == [5, 6, 7]
    for descriptor in (5, 6, 7):
        ours, theirs = (socket.socket(fileno=socket.dup(process.passed[descriptor])) for process in (first, second))
        with ours, theirs:
            assert ours.getsockname() == theirs.getsockname()
            assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert (first.passed[descriptor] == second.passed[descriptor]) is (descriptor == 7)
    stopped = started.service.stopService()
    for process in (first, second):
        process.end()
    for _ in range(100):
        # The admin site's last answers are timed by the fake clock.
        started.reactor.advance(0)
    yield stopped
    assert not path.exists()


@pytest_twisted.inlineCallbacks
def test_a_shared_socket_is_passed_once(tmp_path: Path) -> Generator[Any, Any, None]:
    started = Started(f"unix:{tmp_path / 'socket'}", settings={"workers": 2})
    assert started.processes[0].role is not None
    assert started.processes[0].role.others == ((1, (None,)),)
    yield started.end()


def test_an_endpoint_without_a_socket_is_refused() -> None:
    class Odd:
        def listen(self, _: Any) -> Deferred[Any]:
            return succeed(SimpleNamespace())

    service = make(Reactor())
    odd: Any = Odd()
    service._endpoints = [("odd:", odd)]
    with pytest.raises(CannotStartError, match=r"^odd: is not a socket that workers could share$"):
        service.privilegedStartService()


def test_sockets_from_systemd_are_shared() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        assert is_own_tcp("tcp:0", tcp)
        assert not is_own_tcp("haproxy:systemd:domain=INET:index=0", tcp)
        assert not is_own_tcp("unix:/run/echod", unix)


def test_no_other_program_can_share_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, make_sibling(first, 10) as second, socket.socket() as other:
        assert second.getsockname() == first.getsockname()
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="Address already in use"):
            other.bind(first.getsockname())


def test_siblings_of_a_socket_for_both_families_serve_both() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as first,
        make_sibling(first, 10) as second,
    ):
        first.close()
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, second.getsockname()[1]), 5).close()

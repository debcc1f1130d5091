"""Where connections begin in the pump, and where in Python: each kind of port of the service, on a real reactor."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from echod.lane.native import Native
from echod.net.endpoints import parse_endpoint
from echod.run.service import EchoService
from echod.settings import Settings
from echod.upstream import endpoints
from echod.web.metrics.collect import read_all
from tests.client import Client
from tests.frames import CLOSE, Frame, close_payload
from tests.reactor import until
from tests.run.test_service import REAL
from tests.tls import Certificate

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 50000 80\r\n"

PLAIN = ["tcp:0:interface=127.0.0.1", "tcp6:0:interface=\\:\\:1", "tcp:0", "unix:{path}"]
PASSED = ["systemd, TCP", "systemd, Unix"]
OTHERS = [
    "ssl:0:interface=127.0.0.1:privateKey={pem}",
    "haproxy:tcp:0:interface=127.0.0.1",
    "haproxy:unix:{path}",
    "haproxy:ssl:0:interface=127.0.0.1:privateKey={pem}",
]


def passed(kind: str, path: str) -> Any:
    """Return an endpoint on a socket that somebody else made."""
    made = socket.create_server(("127.0.0.1", 0)) if kind.endswith("TCP") else socket.socket(socket.AF_UNIX)
    with made:
        if made.family == socket.AF_UNIX:
            made.bind(path)
            made.listen()
        endpoint = endpoints.adopt(REAL, os.dup(made.fileno()))
    endpoints.leave_path(endpoint)
    return endpoint


def start(native: Native | None, text: str, folder: Path, certificate: Certificate, **settings: Any) -> EchoService:
    text = text.format(path=folder / "socket", pem=certificate.path)
    endpoint = passed(text, str(folder / "socket")) if text in PASSED else parse_endpoint(REAL, text)
    made = EchoService(
        Settings(drain_timeout=5, **settings), [(text, endpoint)], REAL, native=native, take_signals=False
    )
    made.startService()
    return made


def dialler(service: EchoService, text: str, folder: Path, certificate: Certificate) -> Callable[[], Client]:
    address = service._ports[0].getHost()
    target = ("::1" if "tcp6" in text else "127.0.0.1", address.port) if hasattr(address, "port") else folder / "socket"
    context = certificate.client() if "ssl" in text else None
    first = HEADER if "haproxy" in text else b""
    return lambda: Client(target if isinstance(target, tuple) else str(target), context, first=first)


@pytest.mark.parametrize("text", [*PLAIN, *PASSED, *OTHERS])
@pytest_twisted.inlineCallbacks
def test_where_connections_begin(
    text: str, native: Native, certificate: Certificate, tmp_path: Path
) -> Generator[Any, Any, None]:
    """Whoever comes is served, counted and told of its end alike."""
    service = start(native, text, tmp_path, certificate)
    dial, factory = dialler(service, text, tmp_path, certificate), service.factory
    assert factory is not None
    assert factory.hosting is not None
    clients = []
    for _ in range(3):
        clients.append((yield deferToThread(dial)))
    for client in clients:
        assert (yield deferToThread(client.echo)) == b"hello"
    # Python has answered the first one, and the door has learned that from it.
    assert factory.hosting.count == (0 if text in OTHERS else 2)
    assert len(factory.live) == (3 if text in OTHERS else 1)
    told = factory.snapshots(0, 10)
    assert [(one.path, one.state, one.traffic.sent_messages) for one in told] == [("/", "open", 1)] * 3
    assert [one.peer for one in factory.newest(10)] == [one.peer for one in reversed(told)]
    values = read_all(factory)
    assert values["echod_connections_open"] == {(): 3}
    clients[2].close(3000)
    assert (yield deferToThread(clients[2].frame)) == Frame(CLOSE, close_payload(3000))
    assert (yield deferToThread(clients[2].is_lost))
    clients[2].socket.close()
    yield until(lambda: factory.count == 2)
    assert factory.counts.outcomes["clean"] == 1
    stopped = service.stopService()
    for client in clients[:2]:
        assert (yield deferToThread(client.frame)) == Frame(CLOSE, close_payload(1001, "going away"))
        yield deferToThread(client.leave)
    yield stopped
    assert factory.counts.outcomes["clean"] == 3
    assert factory.count == 0


@pytest.mark.parametrize(
    "settings", [{"log_messages": True}, {"log_frames": True}, {"max_connections_per_address": 1000}]
)
@pytest_twisted.inlineCallbacks
def test_options_for_which_python_has_to_know_of_each_connection(
    settings: dict[str, Any], native: Native, certificate: Certificate, tmp_path: Path, lines: list[str]
) -> Generator[Any, Any, None]:
    service = start(native, PLAIN[0], tmp_path, certificate, **settings)
    dial, factory = dialler(service, PLAIN[0], tmp_path, certificate), service.factory
    assert factory is not None
    assert factory.hosting is None
    option = "--" + next(iter(settings)).replace("_", "-")
    which = "stay" if option.startswith("--log-") else "begin"
    assert any(line.endswith(f", connections {which} in Python because of {option}") for line in lines)
    clients = []
    for _ in range(2):
        clients.append((yield deferToThread(dial)))
    for client in clients:
        assert (yield deferToThread(client.echo)) == b"hello"
    assert len(factory.live) == factory.count == 2
    stopped = service.stopService()
    for client in clients:
        yield deferToThread(client.frame)
        yield deferToThread(client.leave)
    yield stopped

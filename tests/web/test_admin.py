"""The admin site over fake transports, and its listeners in the service over real sockets."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Generator
from http.client import HTTPConnection
from typing import Any, cast

import pytest
import pytest_twisted
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from twisted.internet.endpoints import serverFromString
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from echod.factory import EchoFactory, State
from echod.settings import Compression, Settings
from echod.web.admin import LAST_WORDS, AdminSite
from echod.web.sources import Local
from tests.client import Client
from tests.fakes import Transport, make_factory
from tests.frames import close_payload
from tests.test_service import REAL, address, lines, make

__all__ = ["lines"]

ADMIN = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    return make_factory(clock, max_admin_connections=3, admin_timeout=10, max_message_size=2**40, compression=Compression.OFF)


@pytest.fixture
def site(factory: EchoFactory, clock: Clock) -> AdminSite:
    return AdminSite(Local(factory), clock)


class Visitor:
    """A client of the admin site at the other end of a fake transport."""

    def __init__(self, site: AdminSite) -> None:
        self.transport = Transport()
        self.connection = cast(Any, site.buildProtocol(None))
        self.connection.makeConnection(self.transport)

    def send(self, octets: bytes) -> bytes:
        self.connection.dataReceived(octets)
        return self.transport.take()

    def ask(self, line: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, header fields by their names in lower case, and body."""
        head, _, body = self.send("\r\n".join([f"{line} HTTP/1.1", "Host: x", *headers, "", ""]).encode()).partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        return int(first.split()[1]), {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}, body

    def lose(self) -> None:
        self.connection.connectionLost(None)


def test_alive_and_ready(site: AdminSite, factory: EchoFactory) -> None:
    visitor = Visitor(site)
    for state, status in ((State.STARTING, 503), (State.SERVING, 200), (State.DRAINING, 503)):
        factory.state = state
        assert visitor.ask("GET /readyz")[::2] == (status, f"{state.value}\n".encode())
        assert visitor.ask("GET /healthz")[::2] == (200, b"ok\n")


def test_only_get_and_head(site: AdminSite) -> None:
    visitor = Visitor(site)
    for path in ("/", "/healthz", "/readyz", "/metrics", "/connections", "/settings"):
        assert visitor.ask(f"POST {path}")[0] == 405
        assert visitor.ask(f"HEAD {path}")[0] == (503 if path == "/readyz" else 200)
    assert visitor.ask("GET /nothing")[::2] == (404, b"There is no such page; see /.\n")


def test_metrics_in_the_format_that_is_asked_for(site: AdminSite) -> None:
    visitor = Visitor(site)
    status, fields, body = visitor.ask("GET /metrics")
    assert (status, fields["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\nechod_connections_open 0.0\n" in body
    status, fields, body = visitor.ask("GET /metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert fields["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert any(family.name == "echod_connections_open" for family in parse_openmetrics(body.decode()))
    _, fields, squeezed = visitor.ask("GET /metrics", "Accept-Encoding: gzip", "Accept: application/openmetrics-text")
    assert fields["content-encoding"] == "gzip"
    assert "Accept-Encoding" in fields["vary"]
    assert gzip.decompress(squeezed).endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", [b"text/plain\xff", b"application/openmetrics-text; version=x"])
def test_metrics_for_who_asks_for_no_format_there_is(site: AdminSite, accept: bytes) -> None:
    answer = Visitor(site).send(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: " + accept + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    # To which the oldest prometheus_client gives OpenMetrics: it looks at no version.
    assert re.search(
        rb"\r\nContent-Type: (?:text/plain; version=0\.0\.4|application/openmetrics-text; version=1\.0\.0); charset=utf-8\r\n", answer
    )


def test_settings_are_those_in_force(site: AdminSite, factory: EchoFactory) -> None:
    status, fields, body = Visitor(site).ask("GET /settings")
    settings = json.loads(body)
    assert (status, fields["content-type"]) == (200, "application/json")
    assert settings.keys() == {name.replace("_", "-") for name in Settings.__dataclass_fields__}
    assert settings["max-message-size"] == factory.settings.message_limit == 2**27
    assert settings["max-connections"] == 100
    assert settings["compression"] == "off"
    assert settings["ports"] == ["tcp:8080"]


def test_a_body_is_not_kept(site: AdminSite) -> None:
    visitor = Visitor(site)
    assert visitor.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") == b""
    assert visitor.send(bytes(999_999)) == b""
    (channel,) = (connection.wrappedProtocol for connection in site.protocols)
    assert channel._channel.requests[0].content.read() == b""
    assert visitor.send(b"x").startswith(b"HTTP/1.1 200 ")
    chunked = b"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\n"
    assert visitor.send(chunked).startswith(b"HTTP/1.1 200 ")


def test_for_one_too_many_the_oldest_goes(site: AdminSite) -> None:
    visitors = [Visitor(site) for _ in range(5)]
    assert [visitor.transport.aborted for visitor in visitors] == [True, True, False, False, False]
    visitors[2].lose()
    Visitor(site)
    assert not visitors[3].transport.aborted
    visitors[0].lose()
    assert visitors[4].ask("GET /healthz")[0] == 200


def test_an_answer_has_its_deadline(site: AdminSite, clock: Clock) -> None:
    idle, slow, busy = (Visitor(site) for _ in range(3))
    for octet in b"GET /healthz":
        slow.send(bytes([octet]))
        clock.advance(0.5)
        busy.ask("GET /healthz")
    clock.pump([1] * 5)
    assert [visitor.transport.aborted for visitor in (idle, slow, busy)] == [True, True, False]
    busy.connection.writeSequence([b"more"])
    slow.ask("GET /late")
    clock.pump([1] * 9)
    assert not busy.transport.aborted
    clock.pump([1] * 2)
    assert busy.transport.aborted
    for visitor in (idle, slow, busy):
        visitor.lose()
    clock.advance(1)
    assert not clock.getDelayedCalls()


def test_the_end(site: AdminSite, clock: Clock) -> None:
    quick, slow = Visitor(site), Visitor(site)
    stopped = site.stop()
    assert (quick.transport.disconnecting, slow.transport.disconnecting) == (True, True)
    quick.lose()
    clock.advance(LAST_WORDS)
    assert (slow.transport.aborted, stopped.called) == (True, False)
    slow.lose()
    assert stopped.called
    assert not clock.getDelayedCalls()


def test_the_end_when_nobody_is_there(site: AdminSite, clock: Clock) -> None:
    assert site.stop().called
    assert not clock.getDelayedCalls()


# In the service, over real sockets.


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest_twisted.inlineCallbacks
def test_it_answers_during_a_drain_and_stops_last(lines: list[str]) -> Generator[Any, Any, None]:
    service = make("tcp:0:interface=127.0.0.1", admin_endpoints=[(ADMIN, serverFromString(REAL, ADMIN))])
    service.privilegedStartService()
    assert service.factory is not None
    assert service.factory.state is State.STARTING
    service.startService()
    (line,) = (line for line in lines if line.startswith("admin on http://127.0.0.1:"))
    port = int(line.rsplit(":", 1)[1])
    assert (yield deferToThread(get, port, "/readyz")) == (200, b"serving\n")
    client = yield deferToThread(Client, address(lines))
    _, body = yield deferToThread(get, port, "/connections")
    assert json.loads(body)["total"] == 1
    stopped = service.stopService()
    assert (yield deferToThread(client.frame)).payload == close_payload(1001, "going away")
    assert (yield deferToThread(get, port, "/readyz")) == (503, b"draining\n")
    assert not stopped.called
    yield deferToThread(client.leave)
    yield stopped
    with pytest.raises(ConnectionRefusedError):
        yield deferToThread(get, port, "/healthz")


@pytest_twisted.inlineCallbacks
def test_its_connections_are_beside_the_others() -> Generator[Any, Any, None]:
    most = []
    for endpoints in ([], [(ADMIN, serverFromString(REAL, ADMIN))]):
        service = make(admin_endpoints=endpoints)
        service.startService()
        assert service.factory is not None
        most.append(service.factory.max_connections)
        yield service.stopService()
    assert most[0] - most[1] == Settings().max_admin_connections

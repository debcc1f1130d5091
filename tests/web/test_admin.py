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

from echod.settings import Compression, Settings
from echod.web.admin import LAST_WORDS, AdminSite
from echod.web.sources import Local
from echod.websocket.factory import EchoFactory, State
from tests.client import Client
from tests.fakes import Transport, make_factory
from tests.frames import close_payload
from tests.run.test_service import REAL, address, make

ADMIN = "tcp:0:interface=127.0.0.1"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def factory(clock: Clock) -> EchoFactory:
    settings: dict[str, Any] = {
        "max_message_size": 2**40,
        "compression": Compression.OFF,
        "admin_hosts": ("echod", "echod.example"),
    }
    return make_factory(clock, max_admin_connections=3, admin_timeout=10, **settings)


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
        """Return the status, the header fields by their names in lower case, and the body."""
        head, _, body = self.send(
            "\r\n".join([f"{line} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()
        ).partition(b"\r\n\r\n")
        first, *fields = head.decode().split("\r\n")
        return (
            int(first.split()[1]),
            {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)},
            body,
        )

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


OWN_HOSTS = [
    *(
        "127.0.0.1",
        "127.0.0.1:9090",
        "10.1.2.3:9090",
        "127.0.0.1.:9090",
        "[::1]",
        "[::1]:9090",
        "[fe80::a:b]:1",
        "[::ffff:10.0.0.1]",
    ),
    *("localhost", "LOCALHOST:9090", "localhost.", "localhost.:9090", "localhost:", "a.b.localhost", "a.localhost.:1"),
    *("echod", "Echod:9090", "echod.", "echod.example", "ECHOD.example.:9090", ""),
]
OTHER_HOSTS = [
    *(
        "evil.example",
        "evil.example:9090",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "x.echod.example",
    ),
    *(
        "256.0.0.1",
        "127.1",
        "[::1",
        "[127.0.0.1]",
        "[:::]",
        "::1",
        "a@localhost",
        "localhost:x",
        "localhost, x",
        "echod..",
        "\xff",
    ),
]


@pytest.mark.parametrize("host", OWN_HOSTS)
@pytest.mark.parametrize("path", ["/healthz", "/nothing"])
def test_a_request_for_an_own_host_is_answered(site: AdminSite, host: str, path: str) -> None:
    visitor = Visitor(site)
    status = b"404" if path == "/nothing" else b"200"
    assert visitor.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).startswith(b"HTTP/1.1 " + status)
    if host:
        # The host in the target counts, not the Host field.
        octets = visitor.send(f"GET http://{host}{path} HTTP/1.1\r\nHost: evil.example\r\n\r\n".encode())
        assert octets.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("host", OTHER_HOSTS)
def test_another_host_is_refused_on_every_page(site: AdminSite, host: str) -> None:
    """If another site's name pointed here (DNS rebinding), its pages could read the answers."""
    visitor = Visitor(site)
    for path in ("/", "/healthz", "/readyz", "/metrics", "/connections", "/settings", "/nothing"):
        lines = [f"{path} HTTP/1.1\r\nHost: {host}"]
        if re.fullmatch("[!-~]+", host):  # any other host can't be in a target: twisted.web answers 400
            lines.append(f"http://{host}{path} HTTP/1.1\r\nHost: localhost")
        for line in lines:
            octets = visitor.send(f"GET {line}\r\n\r\n".encode("latin-1"))
            assert octets.startswith(b"HTTP/1.1 421 Misdirected Request\r\n"), line
            head, _, body = octets.partition(b"\r\n\r\n")
            assert b"Content-Type: text/plain" in head
            assert b"--admin-host NAME" in body
            assert body.count(b"\n") == 1
            assert visitor.send(f"HEAD {line}\r\n\r\n".encode("latin-1")).endswith(b"\r\n\r\n")


def test_no_host_and_several_hosts(site: AdminSite) -> None:
    """A health check by HTTP/1.0 may name no host. A browser always names one."""
    visitor = Visitor(site)
    assert visitor.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: echod\r\n\r\n").startswith(b"HTTP/1.1 421 ")
    assert visitor.send(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200 ")


def test_metrics_in_the_requested_format(site: AdminSite) -> None:
    visitor = Visitor(site)
    status, fields, body = visitor.ask("GET /metrics")
    assert (status, fields["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\nechod_connections_open 0.0\n" in body
    status, fields, body = visitor.ask(
        "GET /metrics", "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    )
    assert fields["content-type"].startswith("application/openmetrics-text; version=1.0.0; charset=utf-8")
    assert any(family.name == "echod_connections_open" for family in parse_openmetrics(body.decode()))
    _, fields, squeezed = visitor.ask("GET /metrics", "Accept-Encoding: gzip", "Accept: application/openmetrics-text")
    assert fields["content-encoding"] == "gzip"
    assert "Accept-Encoding" in fields["vary"]
    assert gzip.decompress(squeezed).endswith(b"# EOF\n")


@pytest.mark.parametrize("accept", [b"text/plain\xff", b"application/openmetrics-text; version=x"])
def test_metrics_for_an_unreadable_accept_header(site: AdminSite, accept: bytes) -> None:
    answer = Visitor(site).send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: " + accept + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    # The oldest prometheus_client ignores the version, and answers with OpenMetrics.
    assert re.search(
        rb"\r\nContent-Type: (?:text/plain; version=0\.0\.4|application/openmetrics-text; "
        rb"version=1\.0\.0); charset=utf-8\r\n",
        answer,
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
    assert visitor.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n") == b""
    assert visitor.send(bytes(999_999)) == b""
    (channel,) = (connection.wrappedProtocol for connection in site.protocols)
    assert channel._channel.requests[0].content.read() == b""
    assert visitor.send(b"x").startswith(b"HTTP/1.1 200 ")
    chunked = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n0\r\n\r\n"
    assert visitor.send(chunked).startswith(b"HTTP/1.1 200 ")


def test_the_oldest_connection_is_reset_for_one_too_many(site: AdminSite) -> None:
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


def test_the_end_resets_the_connections_that_are_left(site: AdminSite, clock: Clock) -> None:
    quick, slow = Visitor(site), Visitor(site)
    stopped = site.stop()
    assert (quick.transport.disconnecting, slow.transport.disconnecting) == (True, True)
    quick.lose()
    clock.advance(LAST_WORDS)
    assert (slow.transport.aborted, stopped.called) == (True, False)
    slow.lose()
    assert stopped.called
    assert not clock.getDelayedCalls()


def test_the_end_without_connections(site: AdminSite, clock: Clock) -> None:
    assert site.stop().called
    assert not clock.getDelayedCalls()


# In the service, over real sockets.


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Connection": "close"})
    answer = connection.getresponse()
    return answer.status, answer.read()


@pytest_twisted.inlineCallbacks
def test_the_site_answers_during_a_drain_and_stops_last(lines: list[str]) -> Generator[Any, Any, None]:
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
def test_admin_connections_do_not_count_as_websocket_connections() -> Generator[Any, Any, None]:
    most = []
    for endpoints in ([], [(ADMIN, serverFromString(REAL, ADMIN))]):
        service = make(admin_endpoints=endpoints)
        service.startService()
        assert service.factory is not None
        most.append(service.factory.max_connections)
        yield service.stopService()
    assert most[0] - most[1] == Settings().max_admin_connections

"""Request heads as Debian's HAProxy and nginx forward them, and Envoy: how many of a browser's connections the door
answers by itself, although each head differs from the last one.

The factory is in this process, because nobody outside can tell a guest.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from echod.echo import EchoProtocol
from echod.settings import Settings
from echod.websocket.factory import EchoFactory
from tests.daemon import wait_until
from tests.frames import TEXT, client_frame, server_frame
from tests.loop import DEADLINE, Loop, close, needed_native
from tests.ports import held_port
from tests.system.proxies import SAMPLES, Front, find_tool
from tests.tls import Certificate
from tests.websocket.test_hosting import Client, House

OPENS = 10
"""Connections of each browser."""

BROWSERS = {
    "Chromium": (
        "Connection: Upgrade",
        "Pragma: no-cache",
        "Cache-Control: no-cache",
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0",
        "Upgrade: websocket",
        "Origin: https://a.example",
        "Sec-WebSocket-Version: 13",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Accept-Language: en-GB,en;q=0.9",
        "Cookie: {chance}",
        "Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    ),
    "Firefox": (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "Accept: */*",
        "Accept-Language: en-GB,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br, zstd",
        "Sec-WebSocket-Version: 13",
        "Origin: https://a.example",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Sec-WebSocket-Key: {key}",
        "Cookie: {chance}; theme=dark",
        "traceparent: 00-{chance}-01",
        "Sec-Fetch-Mode: websocket",
        "Connection: keep-alive, Upgrade",
        "Upgrade: websocket",
    ),
}

Change = tuple[str, str]
"""A text in a sample, and what takes its place."""

NUMBERED: dict[str, Change] = {
    "haproxy-http": (
        "option forwardfor\n",
        "option forwardfor\n    unique-id-format %ci:%cp_%fi:%fp_%Ts_%rt:%pid\n    unique-id-header X-Unique-ID\n",
    ),
    "nginx-http": (
        "proxy_set_header Host       $host;",
        "proxy_set_header Host $host; proxy_set_header X-Request-ID $request_id; "
        "proxy_set_header X-Real-IP $remote_addr;",
    ),
}
"""What makes each sample add a number to each head, and the client's address once more."""


_TYPES = "type.googleapis.com/envoy.extensions.filters"


def envoy_configuration(port: int, house_port: int) -> dict[str, Any]:
    """Return a configuration with Envoy's defaults. It adds `x-request-id`, `x-forwarded-proto` and more."""

    def at(number: int) -> dict[str, Any]:
        return {"socket_address": {"address": "127.0.0.1", "port_value": number}}

    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "echod",
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "echod"}}],
                }
            ]
        },
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPES}.http.router.v3.Router"}}],
    }
    cluster = {
        "name": "echod",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "echod",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at(house_port)}}]}],
        },
    }
    listener = {"address": at(port), "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


@contextmanager
def envoy(folder: Path, house_port: int) -> Iterator[int]:
    """Run Envoy before a port, and yield its own."""
    with held_port() as port, (folder / "log").open("wb") as log:
        path = folder / "envoy.json"
        path.write_text(json.dumps(envoy_configuration(port, house_port)))
        command = [find_tool("envoy"), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)

        def listens() -> bool:
            assert process.poll() is None, (folder / "log").read_text()[-5000:]
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(listens, "Envoy to listen")
            yield port
        finally:
            process.terminate()
            process.wait(20)


@dataclass
class Behind:
    """A factory behind a proxy."""

    house: House
    port: int

    def open(self, browser: str, chance: random.Random, source: str) -> bool:
        """Connect, exchange a message, close, and tell whether the door has answered."""
        made = socket.create_connection(("127.0.0.1", self.port), DEADLINE, (source, 0))
        client = Client(self.house.loop, made)
        self.house.links.append(client)
        before = self.house.guests
        told = {"key": b64encode(chance.randbytes(16)).decode(), "chance": chance.randbytes(16).hex()}
        lines = ["GET /chat HTTP/1.1", "Host: a.example", *BROWSERS[browser], "", ""]
        client.send("\r\n".join(lines).format(**told).encode())
        self.house.loop.until(lambda: b"\r\n\r\n" in client.take())
        assert client.received.startswith(b"HTTP/1.1 101 ")
        del client.received[: client.received.index(b"\r\n\r\n") + 4]
        is_guest = self.house.guests > before
        client.send(client_frame(TEXT, b"Hello"))
        assert client.receive(7) == server_frame(TEXT, b"Hello")
        addresses = [each.client for each in self.house.factory.snapshots(0, 10)]
        assert addresses == [source if self.house.factory.settings.trust_proxy else "127.0.0.1"]
        made.close()
        self.house.loop.until(lambda: not self.house.factory.count)
        return is_guest


@contextmanager
def proxy(name: str, certificate: Certificate, house_port: int, change: Change | None) -> Iterator[int]:
    """Run a proxy before a port, and yield its own."""
    if name == "envoy":
        with envoy(certificate.path.parent, house_port) as port:
            yield port
        return
    here = f"127.0.0.1:{house_port}"
    changes = {"127.0.0.1:8081": here, "127.0.0.1:8082": here, **dict([change] if change is not None else [])}
    if not SAMPLES[name].is_nginx:
        changes["default-server check inter 2s fall 2 rise 1"] = ""  # a check is a connection, too
    with Front(SAMPLES[name], certificate, changes=changes) as front:
        yield front.plain_port


@contextmanager
def behind(name: str, certificate: Certificate, trust_proxy: int, change: Change | None) -> Iterator[Behind]:
    with Loop() as loop:
        settings = Settings(ping_interval=0, trust_proxy=trust_proxy)
        house = House(loop, EchoFactory(EchoProtocol, settings, loop, 100, needed_native()), None)
        assert house.hosting.open(house.port)
        with proxy(name, certificate, house.port.getHost().port, change) as port:
            yield Behind(house, port)
        house.port.stopListening()
        house.hosting.drain()
        loop.turn()
        close(house)


@pytest.mark.parametrize("trust_proxy", [0, 1])
@pytest.mark.parametrize(
    ("name", "change"),
    [*((name, None) for name in NUMBERED), *NUMBERED.items(), ("envoy", None)],
    ids=[*NUMBERED, *(f"{name}-numbered" for name in NUMBERED), "envoy"],
)
def test_all_but_the_first_are_answered_by_the_door(
    name: str, change: Change | None, trust_proxy: int, certificate: Certificate
) -> None:
    """Keys, cookies, numbers of requests and the client's address differ each time. Each browser's head is judged
    once."""
    chance = random.Random(5)
    with behind(name, certificate, trust_proxy, change) as made:
        for browser in BROWSERS:
            answered = [made.open(browser, chance, f"127.0.0.{number}") for number in range(2, 2 + OPENS)]
            assert answered == [False] + [True] * (OPENS - 1)

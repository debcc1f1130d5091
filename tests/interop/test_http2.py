"""Clients of HTTP/2 that echod did not write: Node's own module, undici, and curl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from echod.testing import Server
from tests.daemon import run
from tests.tools import give_up, needed

FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "http2_client.js"


@pytest.mark.parametrize("is_tls", [False, True], ids=["prior knowledge", "ALPN"])
def test_node(is_tls: bool) -> None:
    node = needed("node", "nodejs")
    with Server() as server:
        url = server.http2_url if is_tls else server.url.replace("ws", "http", 1)
        done = run(node, str(SCRIPT), url, str(server.authority or ""))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["can_connect"] is True
    assert told["page"] == "ok\n"
    assert [stream["status"] for stream in told["streams"]] == [200, 200]
    assert told["streams"][0] == {"status": 200, "code": 0, "octets": "\x81\x05hello\x88\x02\x03\xe8"}
    assert told["streams"][1]["code"] == 8
    assert told["streams"][1]["octets"] == "\x81\x7e\x03\xe8" + "x" * 1000


@pytest.mark.parametrize("mode", ["on", "no-websocket"])
def test_undici(mode: str) -> None:
    """It goes back to HTTP/1.1 if the server takes no WebSockets over HTTP/2."""
    node = needed("node", "nodejs")
    if not (FOLDER / "node_modules" / "undici").exists():
        give_up("the Node client `undici` is not installed: npm ci --prefix tests/interop")
    with Server("--http2", mode) as server:
        done = run(node, str(FOLDER / "undici_client.js"), server.tls_url, str(server.authority))
    assert done.returncode == 0, done.stderr
    info, *echoes = json.loads(done.stdout)
    assert json.loads(info["came"][0])["http"]["version"] == ("2" if mode == "on" else "1.1")
    assert [(end["code"], end["reason"]) for end in (info, *echoes)] == [(4000, "bye")] * 3
    assert [echo["came"] for echo in echoes] == [["hello"], ["x" * 1_000_000]]


@pytest.mark.parametrize("mode", ["on", "off"])
def test_curl(mode: str) -> None:
    curl = needed("curl")
    with Server("--http2", mode) as server:
        url = server.http2_url
        done = run(curl, "--silent", "--insecure", "--write-out", "%{http_version}", f"{url}/healthz")
    assert done.stdout == "ok\n" + ("2" if mode == "on" else "1.1")

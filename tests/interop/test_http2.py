"""Clients of HTTP/2 that echod did not write: Node's own module, undici, Deno, curl and h2load."""

from __future__ import annotations

import json
import re
import select
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

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


@pytest.mark.parametrize(("package", "mode"), [("undici", "on"), ("undici", "no-websocket"), ("undici-7", "on")])
def test_undici(package: str, mode: str) -> None:
    """It goes back to HTTP/1.1 if the server takes no WebSockets over HTTP/2. Over HTTP/2, version 7 fails without the
    answer to its key."""
    node = needed("node", "nodejs")
    if not (FOLDER / "node_modules" / package).exists():
        give_up(f"the Node client `{package}` is not installed: npm ci --prefix tests/interop")
    with Server("--http2", mode) as server:
        done = run(node, str(FOLDER / "undici_client.js"), server.tls_url, str(server.authority), package)
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


@contextmanager
def only_http2(url: str) -> Iterator[str]:
    """Yield the URL of a server that passes TLS on to another one, and refuses clients that do not ask for HTTP/2."""
    address = urlsplit(url)

    class PassOn(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            # ALPN is in the client's first message, which is not encrypted (RFC 7301 section 3.1).
            if b"\x02h2" not in self.request.recv(65536, socket.MSG_PEEK):
                return
            with socket.create_connection((address.hostname, address.port)) as server:
                other = {self.request: server, server: self.request}
                while True:
                    for end in select.select([*other], [], [])[0]:
                        octets = end.recv(65536)
                        if not octets:
                            return
                        other[end].sendall(octets)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), PassOn) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"wss://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_deno() -> None:
    """It asks for HTTP/1.1 first, and for HTTP/2 alone where it gets no connection that way."""
    deno = FOLDER / "deno" / "node_modules" / ".bin" / "deno"
    if not deno.exists():
        give_up("Deno is not installed: npm ci --prefix tests/interop/deno")
    with Server() as server, only_http2(server.tls_url) as url:
        options = ["--quiet", "--allow-net", "--cert", str(server.authority)]
        done = run(str(deno), "run", *options, str(FOLDER / "deno_client.js"), url)
    assert done.returncode == 0, done.stderr
    info, *echoes = json.loads(done.stdout)
    assert json.loads(info["came"][0])["http"]["version"] == "2"
    assert [(end["code"], end["reason"]) for end in (info, *echoes)] == [(4000, "bye")] * 3
    assert [echo["came"] for echo in echoes] == [["hello"], ["x" * 1_000_000]]


@pytest.mark.parametrize("is_tls", [False, True], ids=["prior knowledge", "ALPN"])
def test_h2load(is_tls: bool) -> None:
    """It keeps as many requests under way as the server allows."""
    h2load = needed("h2load", "nghttp2-client")
    with Server("--max-streams", "50") as server:
        url = server.http2_url if is_tls else server.url.replace("ws", "http", 1)
        done = run(h2load, "--requests=3000", "--clients=4", "--max-concurrent-streams=100", f"{url}/healthz")
    assert done.returncode == 0, done.stderr
    assert re.search("^requests: .* 3000 succeeded, 0 failed, 0 errored, 0 timeout$", done.stdout, re.MULTILINE)
    assert re.search("^status codes: 3000 2xx, 0 3xx, 0 4xx, 0 5xx$", done.stdout, re.MULTILINE)

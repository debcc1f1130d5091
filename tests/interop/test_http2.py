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
from tests.frames import CLOSE, TEXT, client_frame, close_payload, server_frame
from tests.test_faults_daemon import FRAMES, NO_ECHO
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


TEA = client_frame(TEXT, b"tea") + client_frame(CLOSE, close_payload(1000))
"""What Node sends on each stream: a message, and a Close frame, unless the stream is cut off by then."""

CLOSED = server_frame(CLOSE, close_payload(1000))

REFUSED = {
    "accept=wrong": (400, "Bad request: the parameter accept has no effect over HTTP/2.\n"),
    "head=folded": (400, "Bad request: the parameter head is not nul or non-ascii or endless: HTTP/2 has no other.\n"),
    "status=503&body=tea+break": (503, "tea break"),
    "auth=bearer:tea": (401, "The URL asks for other credentials.\n"),
}

ECHO = server_frame(TEXT, b"tea")

CODES = {
    "cut=3": (0, ECHO[:3]),
    "cut=3&abort": (8, ECHO[:3]),
    "cut=0&slice=1": (0, b""),
    "close=1006&after=1": (0, ECHO),
    "abort&after=1": (8, ECHO),
    "close=1001&reason=bye&after=1": (0, ECHO + server_frame(CLOSE, close_payload(1001, "bye"))),
    "slice=1": (0, ECHO + CLOSED),
    "rate=100&greeting=hello": (0, server_frame(TEXT, b"hello") + ECHO + CLOSED),
    "delay=50ms": (0, ECHO + CLOSED),
    "drop=1": (0, CLOSED),
    "fragment=2&goaway&after=1": (0, server_frame(TEXT, b"te", fin=False) + server_frame(0, b"a") + CLOSED),
    "subprotocol=never&extension=never&header=X-Tea:green": (0, ECHO + CLOSED),
}
"""With which code a stream ends, and what comes on it before, by the query."""


@pytest.mark.parametrize("is_tls", [False, True], ids=["prior knowledge", "ALPN"])
def test_node_meets_faults(is_tls: bool) -> None:
    """All at once, each on a stream of one connection, which none of them ends."""
    node = needed("node", "nodejs")
    queries = [*FRAMES, *REFUSED, *CODES]
    deflate = {"sec-websocket-extensions": "permessage-deflate"}
    asked = [
        {
            "path": f"/?{query}",
            "octets": (client_frame(TEXT, b"tea") if query.startswith("cut") else TEA).hex(),
            "fields": deflate if query.startswith("bad=deflate") else {},
        }
        for query in queries
    ]
    with Server() as server:
        url = server.http2_url if is_tls else server.url.replace("ws", "http", 1)
        done = run(node, str(FOLDER / "http2_faults.js"), url, json.dumps(asked), str(server.authority or ""))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["goaways"]) == {0}
    seen = dict(zip(queries, told["seen"], strict=True))
    got = {query: (one["status"], one["code"], bytes.fromhex(one["octets"])) for query, one in seen.items()}
    assert {query: got[query] for query in FRAMES} == {query: (200, 0, octets_of(query)) for query in FRAMES}
    assert {query: got[query] for query in REFUSED} == {
        query: (status, 0, text.encode()) for query, (status, text) in REFUSED.items()
    }
    assert {query: got[query] for query in CODES} == {query: (200, *end) for query, end in CODES.items()}
    assert seen["slice=1"]["pieces"] > 1
    chosen = seen["subprotocol=never&extension=never&header=X-Tea:green"]["fields"]
    assert (chosen["sec-websocket-protocol"], chosen["sec-websocket-extensions"]) == ("never", "never")
    assert chosen["x-tea"] == "green"


def octets_of(query: str) -> bytes:
    """Return what comes on a stream that asks for a wrong frame."""
    name = query.removeprefix("bad=")
    if name == "behind-close":
        return FRAMES[query]
    return FRAMES[query] + (b"" if name in NO_ECHO else ECHO) + CLOSED


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

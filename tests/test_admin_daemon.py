"""The admin site of a real daemon: exact numbers for known traffic over every lane, and a flood of visitors.

Knows HTTP, frames and a browser's command line. Must never import the code that it measures.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse

from tests.client import upgrade
from tests.daemon import Daemon, wait_until
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, client_frame, close_payload, server_frame
from tests.loop import needed_native
from tests.tls import Certificate
from tests.tools import needed

ADMIN = ("--admin", "tcp:0:interface=127.0.0.1")

OPENMETRICS = {"Accept": "application/openmetrics-text;version=1.0.0"}


def get(daemon: Daemon, path: str, **headers: str) -> bytes:
    with urlopen(Request(daemon.admin_urls[0] + path, headers=headers), timeout=20) as answer:
        body: bytes = answer.read()
        return body


def status(daemon: Daemon, path: str) -> int:
    try:
        get(daemon, path)
    except HTTPError as error:
        return error.code
    return 200


def samples(daemon: Daemon) -> dict[str, float]:
    """Return every sample that is not 0, by its name and the values of its labels."""
    found = {}
    for family in parse(get(daemon, "/metrics", **OPENMETRICS).decode()):
        for sample in family.samples:
            if sample.value:
                found[" ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))])] = sample.value
    return found


@contextmanager
def connected(
    daemon: Daemon, *headers: str, path: str = "/", context: ssl.SSLContext | None = None
) -> Iterator[socket.socket]:
    with socket.create_connection(daemon.address, 20) as plain:
        client = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
        upgrade(client, *headers, path=path)
        yield client
        client.close()


def receive(client: socket.socket, size: int) -> bytes:
    octets = b""
    while len(octets) < size:
        piece = client.recv(size - len(octets))
        assert piece, octets
        octets += piece
    return octets


def echo(client: socket.socket, opcode: int, payload: bytes, fragment: int | None = None) -> None:
    if fragment is None:
        client.sendall(client_frame(opcode, payload))
    else:
        client.sendall(
            client_frame(opcode, payload[:fragment], fin=False) + client_frame(CONTINUATION, payload[fragment:])
        )
    expected = server_frame(opcode, payload)
    assert receive(client, len(expected)) == expected


def close(client: socket.socket, code: int) -> None:
    client.sendall(client_frame(CLOSE, close_payload(code)))
    assert receive(client, 4) == server_frame(CLOSE, close_payload(code))
    assert client.recv(1) == b""


def traffic(client: socket.socket, fragment: int | None = None) -> None:
    """Send 5 texts of 7, 7, 7, 7 and 5000 bytes, 2 binary messages of 100 and 200,000, and a ping among them."""
    for _ in range(3):
        echo(client, TEXT, b"a text.", fragment)
    echo(client, BINARY, bytes(100), fragment)
    client.sendall(client_frame(PING))
    assert receive(client, 2) == b"\x8a\x00"
    echo(client, TEXT, b"a text.", fragment)
    echo(client, TEXT, b"x" * 5000, fragment)
    echo(client, BINARY, bytes(200_000), fragment)


def expected(lane: str) -> dict[str, float]:
    """Return the samples that `traffic` must lead to."""
    found: dict[str, float] = {}
    for way in ("received", "sent"):
        found |= {f"echod_messages_{way}_total {lane} text": 5, f"echod_messages_{way}_total {lane} binary": 2}
        found |= {
            f"echod_payload_{way}_bytes_total {lane} text": 5028,
            f"echod_payload_{way}_bytes_total {lane} binary": 200_100,
        }
    return found


def counted(samples: dict[str, float], lane: str) -> dict[str, float]:
    """Return the samples about messages. Over TLS a lease begins only at the reactor's next turn, so the codec may get
    the first message: over TLS the samples of pump and codec are added up."""
    found: dict[str, float] = {}
    for name, value in samples.items():
        if name.startswith(("echod_messages", "echod_payload")):
            key = name.replace(" pump ", " TLS ").replace(" codec ", " TLS ") if lane == "TLS" else name
            found[key] = found.get(key, 0) + value
    return found


@pytest.mark.parametrize("lane", ["pump", "codec", "TLS", "pump, fragments", "autobahn, nothing native"])
def test_known_traffic_is_counted_exactly(lane: str, certificate: Certificate) -> None:
    context = None
    ports: tuple[str, ...] = ("tcp:0:interface=127.0.0.1",)
    if "nothing" not in lane:
        needed_native()
    headers = ["Sec-WebSocket-Protocol: chat"]
    path = "/x"
    if lane == "codec":  # which serves uncompressed messages of a connection with context takeover
        headers.append("Sec-WebSocket-Extensions: permessage-deflate")
        path += "?compression=deflate"
    if lane == "TLS":
        context = certificate.client()
        ports = (f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}",)
    environment = {"ECHOD_NATIVE": "0"} if "nothing" in lane else {}
    with Daemon(*ADMIN, ports=ports, env=environment) as daemon:
        with connected(daemon, *headers, path=path, context=context) as client:
            traffic(client, 3 if "fragments" in lane else None)
            (told,) = json.loads(get(daemon, "/connections"))["connections"]
            live = samples(daemon)
            close(client, 1000)
        wait_until(lambda: json.loads(get(daemon, "/connections"))["total"] == 0, "the connection to go")
        ended = samples(daemon)
        name = lane.partition(",")[0]
        assert counted(live, lane) == expected(name)
        assert counted(ended, lane) == expected(name), "the numbers stay after the connection"
        assert (live["echod_connections_open"], ended.get("echod_connections_open")) == (1, None)
        assert "echod_connections_total clean" not in live
        assert (ended["echod_connections_total clean"], ended["echod_closes_total client 1000"]) == (1, 1)
        assert ended["echod_connection_duration_seconds_count"] == 1
        sizes = {
            key.removeprefix("echod_message_size_bytes_"): value
            for key, value in ended.items()
            if "message_size" in key
        }
        of_text = {
            "bucket 4 text": None,
            "bucket 16 text": 4,
            "bucket 4096 text": 4,
            "bucket 16384 text": 5,
            "sum text": 5028,
        }
        of_binary = {"bucket 64 binary": None, "bucket 256 binary": 1, "bucket 262144 binary": 2, "count binary": 2}
        for key, value in {**of_text, **of_binary}.items():
            assert sizes.get(key) == value, key
        assert (told["path"], told["subprotocol"], told["state"]) == ("/x", "chat", "open")
        assert told["received"] == told["sent"] == {"messages": 7, "octets": 205_128}


def test_promtool_accepts_the_metrics() -> None:
    promtool = needed("promtool", "prometheus")
    with Daemon(*ADMIN) as daemon:
        with connected(daemon) as client:
            echo(client, TEXT, b"x")
            close(client, 3000)
        done = subprocess.run(
            [promtool, "check", "metrics"], input=get(daemon, "/metrics"), capture_output=True, timeout=30, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_held_octets_are_reported() -> None:
    """Test with a client that does not read its answers."""
    with Daemon(*ADMIN) as daemon, connected(daemon) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(3)
        with pytest.raises(TimeoutError):
            client.sendall(10 * client_frame(BINARY, bytes(2**23)))
        wait_until(lambda: samples(daemon).get("echod_connections_backpressured") == 1, "the backpressure")

        def is_told_alike() -> object:
            """The kernel may take further bytes between the two requests."""
            held = samples(daemon)["echod_buffered_bytes"]
            (told,) = json.loads(get(daemon, "/connections"))["connections"]
            return told["backpressured"] and held == told["buffered"] > 100_000

        wait_until(is_told_alike, "both pages to agree on the octets that are held")
        client.close()
        wait_until(
            lambda: samples(daemon).get("echod_buffered_bytes", 0) == 0,
            "the octets to be given back, long before a ping is missed",
            20,
        )


def test_a_draining_daemon_is_not_ready() -> None:
    with Daemon(*ADMIN, "--drain-timeout", "20s") as daemon:
        assert get(daemon, "/readyz") == b"serving\n"
        with connected(daemon) as client:
            client.sendall(client_frame(TEXT, b"x" * 100)[:-1])
            daemon.send_signal(signal.SIGTERM)
            daemon.wait_for_log("shutting down")
            answers = [curl(daemon, path) for path in ("/readyz", "/healthz", "/metrics", "/connections")]
            assert [status for status, _ in answers] == [503, 200, 200, 200]
            assert answers[0][1] == b"draining\n"
            client.sendall(client_frame(TEXT, b"x" * 100)[-1:])
            assert receive(client, 102) == server_frame(TEXT, b"x" * 100)
            assert receive(client, 14) == server_frame(CLOSE, close_payload(1001, "going away"))
            client.sendall(client_frame(CLOSE, close_payload(1001)))
            assert client.recv(1) == b""
        assert daemon.wait() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_page_of_another_site_reads_nothing(workers: str) -> None:
    """DNS rebinding: the name of another site leads here, so a browser takes the request for one of that site's own."""
    with Daemon(*ADMIN, "--admin-host", "metrics.example", "--workers", workers) as daemon, connected(daemon):
        for path in ("/", "/connections", "/metrics"):
            status, body = curl(daemon, path, "rebound.example")
            assert (status, b"127.0.0.1" in body) == (421, False)
        for host in ("metrics.example", "localhost:9090", "127.0.0.1:9090"):
            status, body = curl(daemon, "/connections", host)
            assert (status, b"127.0.0.1" in body) == (200, True)


def curl(daemon: Daemon, path: str, host: str = "localhost") -> tuple[int, bytes]:
    """Send a request, and return the status, which the test judges, and the body."""
    url = re.match(r"http://([\d.]+):(\d+)", daemon.admin_urls[0])
    assert url is not None
    with socket.create_connection((url[1], int(url[2])), 20) as visitor:
        visitor.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        octets = b""
        while piece := visitor.recv(65536):
            octets += piece
    head, _, body = octets.partition(b"\r\n\r\n")
    return int(head.split()[1]), body


def test_hundreds_of_connections_are_listed_in_pages() -> None:
    with Daemon(*ADMIN) as daemon, ExitStack() as stack:
        ours = [stack.enter_context(connected(daemon)).getsockname() for _ in range(300)]
        seen: list[Any] = []
        for page in range(1, 5):
            told = json.loads(get(daemon, f"/connections?page={page}&per-page=90"))
            assert (told["total"], told["pages"]) == (300, 4)
            seen += [connection["peer"] for connection in told["connections"]]
        assert seen == [f"{host}:{port}" for host, port in ours]


def test_a_flood_of_idle_visitors_does_no_harm() -> None:
    """Open far more connections than are allowed: the oldest are reset, new visitors are answered, and echoes go on."""
    with Daemon(*ADMIN) as daemon, connected(daemon) as client:
        url = re.match(r"http://([\d.]+):(\d+)", daemon.admin_urls[0])
        assert url is not None
        before = samples(daemon)["process_open_fds"]
        visitors = []
        try:
            for i in range(500):
                visitors.append(socket.create_connection((url[1], int(url[2])), 20))
                visitors[-1].sendall(b"GET /metrics HTTP/1.1\r\nX: " + bytes([97]) * (i % 50))
            echo(client, TEXT, b"still here")
            wait_until(
                lambda: samples(daemon)["process_open_fds"] <= before + 30,
                "the oldest connections to go, before their time-out",
                20,
            )
            assert json.loads(get(daemon, "/connections"))["total"] == 1
            assert curl(daemon, "/readyz")[0] == 200
        finally:
            for visitor in visitors:
                visitor.close()


def test_the_site_on_a_unix_socket_and_over_tls(certificate: Certificate, tmp_path: Path) -> None:
    path = tmp_path / "admin"
    tls = f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}"
    with Daemon("--admin", f"unix:{path}", "--admin", tls) as daemon:
        assert daemon.admin_urls[0] == f"unix:{path}"
        assert daemon.admin_urls[1].startswith("https://127.0.0.1:")
        with socket.socket(socket.AF_UNIX) as visitor:
            visitor.settimeout(20)
            visitor.connect(str(path))
            visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert visitor.recv(4096).startswith(b"HTTP/1.1 200 ")
            visitor.sendall(b"GET /healthz HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n")
            assert visitor.recv(4096).startswith(b"HTTP/1.1 421 ")
        context = certificate.client()
        context.set_alpn_protocols(["h2", "http/1.1"])  # as a browser does
        url = daemon.admin_urls[1].replace("127.0.0.1", "localhost")
        with urlopen(url + "/readyz", context=context, timeout=20) as answer:
            assert answer.read() == b"serving\n"


def test_a_person_sees_the_figures(tmp_path: Path) -> None:
    """Test in a browser after its script has drawn the page. A policy that blocked script or style would show."""
    chromium = needed("chromium")
    with Daemon(*ADMIN) as daemon, connected(daemon, path="/<b>") as client:
        echo(client, TEXT, b"hello")
        command = [
            chromium,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path}",
            "--enable-logging=stderr",
        ]
        done = subprocess.run(
            [*command, "--virtual-time-budget=6000", "--dump-dom", daemon.admin_urls[0] + "/"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert 'id="state" role="status">serving<' in done.stdout
        rate = re.search(r'id="message-rate">([^<]*)<', done.stdout)
        assert rate is not None
        assert re.fullmatch(r"[\d.,]+", rate[1]), "only the script writes it"
        assert "&lt;b&gt;" in done.stdout
        assert "CONSOLE" not in done.stderr, done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_last_frames_of_a_connection(workers: str) -> None:
    with Daemon(*ADMIN, "--log-frames", "--workers", workers) as daemon, connected(daemon, path="/chat") as client:
        echo(client, TEXT, b"hello")
        (told,) = json.loads(get(daemon, "/connections"))["connections"]
        assert told["traced"]
        page = f"/connections/{told['number']}"
        assert re.fullmatch("1" if workers == "1" else f"{told.get('process')}-1", told["number"])
        shown = json.loads(get(daemon, page))
        frames = shown.pop("frames")
        assert (shown["number"], shown["path"]) == (told["number"], "/chat")
        assert [(frame["direction"], frame["payload"]) for frame in frames] == [("in", "hello"), ("out", "hello")]
        client.sendall(client_frame(PING, b"?"))
        receive(client, 3)
        assert [frame["type"] for frame in json.loads(get(daemon, page))["frames"]] == ["text", "text", "ping", "pong"]
        client.close()
        wait_until(lambda: status(daemon, page) == 404, "the end of the page")

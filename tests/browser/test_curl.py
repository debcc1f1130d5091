"""Plain HTTP requests to the WebSocket port with the curl command, whose answers a person or a script sees."""

from __future__ import annotations

import re
import signal
import socket
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.daemon import Daemon, run
from tests.tls import Certificate
from tests.tools import needed


@dataclass(frozen=True)
class Reply:
    """What curl received."""

    status: int
    fields: dict[str, str]
    body: bytes


def curl(daemon: Daemon, folder: Path, path: str, *options: str) -> Reply:
    """Run curl, and assert its success."""
    body = folder / "body"
    body.unlink(missing_ok=True)
    url = daemon.url.replace("ws", "http", 1) + path
    command = [
        needed("curl"),
        "--silent",
        "--show-error",
        "--max-time",
        "20",
        "--dump-header",
        "-",
        "--output",
        str(body),
    ]
    done = run(*command, *options, url)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.split("\n\n")[-2].splitlines()
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return Reply(int(first.split()[1]), fields, body.read_bytes() if body.exists() else b"")


def test_the_health_check(daemon: Daemon, tmp_path: Path) -> None:
    reply = curl(daemon, tmp_path, "/healthz", "--fail")
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert run("curl", "--silent", "--fail", daemon.url.replace("ws", "http", 1) + "/healthz").stdout == "ok\n"


def test_the_console_with_head_and_gzip(daemon: Daemon, tmp_path: Path) -> None:
    page = curl(daemon, tmp_path, "/")
    assert (page.status, page.fields["content-type"]) == (200, "text/html; charset=utf-8")
    assert int(page.fields["content-length"]) == len(page.body) > 10_000
    assert "server" not in page.fields
    head = curl(daemon, tmp_path, "/", "--head")
    del page.fields["date"], head.fields["date"]
    assert (head.status, head.fields) == (200, page.fields)
    assert head.body.startswith(b"HTTP/1.1 200 ")
    assert head.body.endswith(b"\r\n\r\n"), "for HEAD curl outputs the head, and would output a body after it"
    squeezed = curl(daemon, tmp_path, "/", "--compressed")
    assert squeezed.body == page.body
    assert squeezed.fields["content-encoding"] == "gzip"
    assert int(squeezed.fields["content-length"]) < len(page.body) // 2


def test_a_cached_copy_is_requested_with_its_tag(daemon: Daemon, tmp_path: Path) -> None:
    tags = tmp_path / "tags"
    first = curl(daemon, tmp_path, "/", "--etag-save", str(tags))
    again = curl(daemon, tmp_path, "/", "--etag-compare", str(tags))
    assert (first.status, again.status, again.body) == (200, 304, b"")
    assert again.fields["etag"] == first.fields["etag"]
    tags.write_text('"another"\n')
    assert curl(daemon, tmp_path, "/", "--etag-compare", str(tags)).body == first.body


@pytest.mark.parametrize("path", ["/nothing", "/healthz/", "/index.html", "/favicon.ico", "/%2e%2e/etc/passwd"])
def test_an_unknown_path_is_404(daemon: Daemon, tmp_path: Path, path: str) -> None:
    reply = curl(daemon, tmp_path, path, "--path-as-is")
    assert reply.status == 404
    assert re.fullmatch(rb"[^\n]*ws://[^\n]*\n", reply.body)
    assert path.encode() not in reply.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"])
def test_other_methods(daemon: Daemon, tmp_path: Path, method: str) -> None:
    reply = curl(daemon, tmp_path, "/", "--request", method)
    assert (reply.status, reply.fields["allow"]) == (405, "GET, HEAD")
    reply = curl(daemon, tmp_path, "/healthz", "--request", method, "--data", "x" * 100_000)
    assert (reply.status, reply.fields["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/json", "/info", "/frames"])
def test_paths_that_are_only_for_websocket(daemon: Daemon, tmp_path: Path, path: str) -> None:
    reply = curl(daemon, tmp_path, path)
    assert (reply.status, reply.fields["upgrade"]) == (426, "websocket")
    assert b"ws://" in reply.body


def test_each_connection_gets_one_answer(daemon: Daemon, tmp_path: Path) -> None:
    """curl sends two requests in one run, and finds the connection closed after the first."""
    url = daemon.url.replace("ws", "http", 1) + "/healthz"
    done = run(needed("curl"), "--silent", "--verbose", url, url)
    assert (done.returncode, done.stdout) == (0, "ok\nok\n")
    assert done.stderr.lower().count("connection: close") == 2
    assert curl(daemon, tmp_path, "/", "--http1.0").status == 200


def test_clients_that_prefer_http_2(daemon: Daemon, tmp_path: Path) -> None:
    """Such clients offer an upgrade to h2c, which a server may ignore (RFC 9110 section 7.8)."""
    for path, size in (("/healthz", 3), ("/", 10_000)):
        reply = curl(daemon, tmp_path, path, "--http2")
        assert (reply.status, len(reply.body) >= size) == (200, True)
    url = daemon.url.replace("ws", "http", 1)
    source = Path(__file__).parents[1] / "interop" / "Plain.java"
    done = run(needed("java", "default-jdk-headless"), str(source), f"{url}/healthz", f"{url}/")
    assert (done.stdout, done.returncode) == ("200\n200\n", 0), done.stderr


def test_cookies_of_another_service_on_localhost(daemon: Daemon, tmp_path: Path) -> None:
    # As a header of the test's own, because curl cuts cookies that it manages after 8 KiB.
    cookies = f"Cookie: city=Århus; long={'c' * 15_000}"
    assert curl(daemon, tmp_path, "/healthz", "--header", cookies).status == 200
    assert curl(daemon, tmp_path, "/healthz", "--header", cookies + 1500 * "c").status == 431
    with Daemon("--max-request-head", "64KiB") as other:
        assert curl(other, tmp_path, "/healthz", "--header", cookies + 30_000 * "c").status == 200


def test_over_tls(certificate: Certificate, tmp_path: Path) -> None:
    """In the TLS handshake curl asks for HTTP/2, too (ALPN), as browsers do, unless it is told not to."""
    key = str(certificate.path).replace(":", "\\:")
    (tmp_path / "pem").mkdir()
    (tmp_path / "pem" / "localhost.pem").write_bytes(certificate.path.read_bytes())
    ports = [
        f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={key}",
        f"tls:{tmp_path / 'pem'}:port=0:interface=127.0.0.1",
    ]
    with Daemon(ports=ports) as daemon:
        for url, (options, chosen) in product(daemon.urls, (([], "h2"), (["--http1.1"], "http/1.1"))):
            page = f"https://localhost:{urlsplit(url).port}/healthz"
            command = ["--silent", "--show-error", "--verbose", "--cacert", str(certificate.path), *options, page]
            done = run(needed("curl"), *command)
            assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
            assert f"server accepted {chosen}\n" in done.stderr.lower()


def test_the_health_check_of_a_daemon_that_shuts_down(tmp_path: Path) -> None:
    """A new connection is refused. A connection that was open before gets a 503."""
    with Daemon() as daemon, socket.create_connection(daemon.address, timeout=20) as early:
        early.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        # Connections are accepted in order. So the early one has been accepted once a later one has been served.
        assert curl(daemon, tmp_path, "/healthz").status == 200
        daemon.send_signal(signal.SIGTERM)
        assert early.recv(4096).startswith(b"HTTP/1.1 503 ")
        early.close()
        assert daemon.wait() == 0
        assert run(needed("curl"), "--silent", daemon.url.replace("ws", "http", 1) + "/healthz").returncode == 7


def test_without_the_console(tmp_path: Path) -> None:
    with Daemon("--no-console") as daemon:
        assert curl(daemon, tmp_path, "/").status == 426
        assert curl(daemon, tmp_path, "/nothing").status == 426
        assert curl(daemon, tmp_path, "/healthz").body == b"ok\n"

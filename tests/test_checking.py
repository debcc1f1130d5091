"""`python -m echod check` as its users run it: against the real daemon, behind a real nginx, on a terminal, and in a
script.

Knows processes, their output and their exit status. `tests/check/` tests the report about each odd server.
"""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.daemon import Daemon, run, wait_until
from tests.frames import server_frame
from tests.odd_server import OddServer, Peer
from tests.ports import held_port
from tests.tls import Certificate
from tests.tools import needed

CHECK = (sys.executable, "-m", "echod", "check")

SLACK = 30.0
"""Time limit in seconds for a start of Python on a busy machine."""


def check(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run a check, and return its exit status and its output. Without a terminal the check writes nothing to standard
    error."""
    done = run(*CHECK, *arguments, env={**os.environ, **environment})
    assert done.stderr == ""
    return done.returncode, done.stdout


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


# The output.


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", ["ws://127.0.0.1:1", "ws://127.0.0.1:1 --json", "--help"])
@pytest.mark.parametrize(
    ("where", "why"),
    [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor"), ("| true", "Broken pipe")],
)
def test_a_report_that_can_not_be_written_is_one_line(arguments: str, where: str, why: str, unbuffered: str) -> None:
    # `true` has to have ended by then. The start of Python takes some tenths of a second, which alone is not enough.
    script = f"{{ {'sleep 0.5; ' if '|' in where else ''}{' '.join(CHECK)} {arguments}; echo $? >&2; }} {where}"
    done = run("bash", "-c", script, env={**os.environ, "PYTHONUNBUFFERED": unbuffered})
    assert (done.stdout, done.stderr) == ("", f"echod: can't write to standard output: {why}\n{os.EX_IOERR}\n")


def test_without_standard_error_the_report_is_written() -> None:
    done = run("bash", "-c", f"{' '.join(CHECK)} ws://127.0.0.1:1 2>&-")
    assert (done.returncode, done.stdout.startswith("CRITICAL - TCP: ")) == (2, True)


# The daemon.


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--count", "50", "--size", "1"],
        ["--size", "1MiB"],
        ["--size", "16MiB", "--count", "1", "--timeout", "30s"],
        ["--compress", "--size", "64KiB"],
        ["--subprotocol", "a", "--subprotocol", "b"],
        ["--http2", "--compress", "--subprotocol", "a"],
        ["--http2", "--size", "3MiB"],
        ["--header", "X-A: b", "--header", "Origin: https://a.example"],
    ],
)
def test_a_check_of_the_daemon_succeeds(daemon: Daemon, options: list[str]) -> None:
    status, out = check(daemon.url, *options)
    assert status == 0, out
    assert re.match(r"OK - \d+ messages of \S+ echoed, median \S+ m?s \| min=\S+s median=\S+s p99=\S+s max=\S+s\n", out)
    assert "note: " not in out
    assert ("\nextensions: permessage-deflate\n" in out) == ("--compress" in options)
    assert ("\nsubprotocol: a\n" in out) == ("--subprotocol" in options)


def test_json_is_one_object(daemon: Daemon) -> None:
    status, out = check(daemon.url, "--json", "--count", "3")
    record = json.loads(out)
    assert (status, record["status"], record["ok"], record["messages"], record["echoed"]) == (0, 0, True, 6, 6)
    assert record["peer"] == f"127.0.0.1:{daemon.port}"


def test_a_name_with_two_addresses(daemon: Daemon) -> None:
    assert check(f"ws://localhost:{daemon.port}/path?query")[0] == 0


def test_a_daemon_over_ipv6() -> None:
    with Daemon(ports=["tcp6:0:interface=\\:\\:1"]) as daemon:
        status, out = check(f"ws://[::1]:{daemon.port}")
        assert (status, f"address: [::1]:{daemon.port}" in out) == (0, True), out


def test_a_daemon_with_a_certificate(certificate: Certificate) -> None:
    path = certificate.path
    with Daemon(ports=[f"ssl:0:privateKey={path}:certKey={path}:interface=127.0.0.1"]) as daemon:
        url = f"wss://localhost:{daemon.port}"
        status, out = check(url)
        assert (status, out.startswith("CRITICAL - TLS: the certificate is self-signed")) == (2, True), out
        status, out = check(url, "--insecure")
        assert (status, "\nTLS: TLSv1.3, " in out) == (0, True), out
        status, out = check(url, "--insecure", "--http2")
        assert (status, "\nTLS: TLSv1.3, " in out) == (0, True), out
        status, out = check(url, SSL_CERT_FILE=str(path))
        assert status == 0, out
        status, out = check(url.replace("localhost", "127.0.0.1"), SSL_CERT_FILE=str(path))
        assert (status, "is for localhost, and not for 127.0.0.1" in out) == (2, True), out
        status, out = check(url.replace("wss:", "ws:"))
        assert (status, out.startswith("CRITICAL - HTTP: "), "then it is wss://" in out) == (2, True, True), out


def test_a_daemon_that_greets(daemon: Daemon) -> None:
    status, out = check(f"{daemon.url}/info")
    assert (status, "\nnote: the server greets: before the first echo it sent " in out) == (0, True), out


def test_a_daemon_without_tls(daemon: Daemon) -> None:
    status, out = check(f"wss://localhost:{daemon.port}")
    assert (status, out.startswith("CRITICAL - TLS: "), "then it is ws://" in out) == (2, True, True), out


def test_a_full_daemon() -> None:
    with (
        Daemon("--max-connections", "1", "--handshake-timeout", "5m") as daemon,
        socket.create_connection(daemon.address) as only,
    ):
        # The daemon has counted this connection once it has answered on it.
        only.sendall(b"GET / HTTP/1.1\r\n")
        status, out = check(daemon.url, "--json")
    record = json.loads(out)
    assert (status, record["step"], record["what"][:10]) == (2, "HTTP", "status 503")
    assert any(line.startswith("body: ") for line in record["seen"])


def test_a_message_that_is_too_long_for_the_daemon(daemon: Daemon) -> None:
    status, out = check(daemon.url, "--size", "17MiB", "--timeout", "30s")
    assert (status, out.startswith("CRITICAL - echo: Close 1009 ")) == (1, True), out


# Others.


def test_no_connection() -> None:
    with held_port() as port:
        assert check(f"ws://127.0.0.1:{port}")[0] == 2
    status, out = check("ws://nothing.invalid", "--json")
    assert (status, json.loads(out)["step"]) == (2, "DNS")


def test_a_wrong_echo() -> None:
    def serve(peer: Peer) -> None:
        peer.upgrade()
        opcode, payload = peer.read_frame()
        peer.send(server_frame(opcode, payload + b"\x1b[2J"))
        peer.wait()

    with OddServer(serve) as server:
        status, out = check(server.url)
    assert (
        status,
        out.startswith("CRITICAL - echo: message 1 of 10 (text, 1KiB) came back wrong: length: 1024 bytes sent, 1028"),
    ) == (
        1,
        True,
    )
    assert "\x1b" not in out


def test_a_silent_server() -> None:
    with OddServer(Peer.wait) as server:
        began = time.monotonic()
        status, out = check(server.url, "--timeout", "2s")
    assert time.monotonic() - began < 2 + SLACK
    assert (status, out.splitlines()[0]) == (3, "CRITICAL - HTTP: the opening handshake wasn't answered within 2s")


def test_a_thread_of_the_resolver_does_not_delay_the_end() -> None:
    code = """
        import runpy, socket, sys, time
        socket.getaddrinfo = lambda *_: time.sleep(600)
        sys.argv = ["echod", "check", "ws://a.example", "--timeout", "200ms"]
        runpy.run_module("echod", run_name="__main__")
    """
    began = time.monotonic()
    done = run(sys.executable, "-c", textwrap.dedent(code))
    assert time.monotonic() - began < SLACK
    assert (done.returncode, done.stderr) == (3, "")
    assert done.stdout.startswith("CRITICAL - DNS: a.example didn't resolve within 200ms\n")


@pytest.mark.parametrize(
    "arguments", [[], ["http://a.example"], ["ws://a.example", "--size", "0"], ["--no-such-option"]]
)
def test_a_wrong_command_line(arguments: list[str]) -> None:
    done = run(*CHECK, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)


def test_without_a_command() -> None:
    done = run(sys.executable, "-m", "echod")
    assert (done.returncode, done.stderr) == (0, "")
    assert "echod serve --port tcp:8080" in done.stdout
    done = run(sys.executable, "-m", "echod", "sever")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (64, "", 1)


def test_an_interrupt() -> None:
    with OddServer(Peer.wait) as server:
        process = subprocess.Popen([*CHECK, server.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: server.connections, "the check to connect")
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=SLACK)
        finally:
            process.kill()
            process.wait()
    assert (process.returncode, out) == (130, b"")


def test_a_locale_without_utf_8(daemon: Daemon) -> None:
    def serve(peer: Peer) -> None:
        peer.read_head()
        peer.send("HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\nné ☕".encode()[:46])

    with OddServer(serve) as server:
        status, out = check(server.url, PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert (status, "body: n\\xe9" in out) == (2, True), out
    assert check(daemon.url, PYTHONIOENCODING="ascii")[0] == 0


# A terminal.


def on_terminal(*command: str) -> tuple[int, bytes]:
    """Run a command with standard error on a terminal; return its exit status and what came there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while select.select([ours], [], [], SLACK)[0]:
            try:
                shown += os.read(ours, 4096)
            except OSError:
                # On Linux, reading a terminal fails with EIO once the other end is closed.
                break
        return process.wait(SLACK), shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_progress_on_a_terminal(daemon: Daemon) -> None:
    status, shown = on_terminal(*CHECK, daemon.url, "--count", "2", "--size", "4MiB", "--timeout", "30s")
    assert status == 0
    lines = shown.split(b"\r\x1b[K")
    assert lines[0] == b""
    assert lines[-1] == b"", "the last line is wiped"
    assert any(re.fullmatch(rb"message \d of 4 \((text|binary), 4MiB\)", line) for line in lines), lines
    assert b"\n" not in shown


# A proxy.

NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{backend}; proxy_http_version 1.1; }}
        location /right {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
        location /old {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
        location /bare {{ proxy_pass http://127.0.0.1:{backend}; }}
        location /keyless {{
            proxy_pass http://127.0.0.1:{backend};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
            proxy_set_header Sec-WebSocket-Key "";
        }}
        location /dead {{ proxy_pass http://127.0.0.1:{dead}; }}
        location /moved {{ return 301 https://a.example/; }}
    }}
}}
"""


@contextmanager
def nginx(backend: int) -> Iterator[str]:
    """Run Debian's nginx in front of a local port, and yield its URL."""
    program = needed("nginx", "nginx-light")
    with tempfile.TemporaryDirectory(prefix="echod-nginx-") as name, held_port() as port, held_port() as dead:
        folder = Path(name)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=port, backend=backend, dead=dead))
        # The worker processes give up root, and need access to the folder.
        folder.chmod(0o755)
        with (folder / "log").open("wb") as log:
            command = [program, "-p", name, "-c", str(folder / "nginx.conf"), "-e", "stderr"]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: _is_listening(port, process, folder / "log"), "nginx to listen")
            yield f"ws://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(SLACK)


def _is_listening(port: int, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_behind_nginx(daemon: Daemon) -> None:
    with nginx(daemon.port) as url:
        status, out = check(f"{url}/right")
        assert status == 0, out

        status, out = check(url)
        lines = out.splitlines()
        assert (status, lines[0]) == (2, "CRITICAL - HTTP: status 426 Upgrade Required instead of 101"), out
        assert any(line.startswith("Server: nginx/") for line in lines), out
        assert any("a proxy in between does not pass on Upgrade and Connection (nginx/" in line for line in lines), out

        # By default nginx speaks HTTP/1.0 to the server behind it, with or without an Upgrade header.
        for path in ("/old", "/bare"):
            status, out = check(f"{url}{path}")
            assert (status, out.startswith("CRITICAL - HTTP: status 505 "), "body: HTTP/1.1 is needed." in out) == (
                2,
                True,
                True,
            ), out
            assert "nginx needs `proxy_http_version 1.1`" in out, out
        daemon.wait_for_log("refused a handshake from 127.0.0.1: 505 HTTP/1.1 is needed\n")

        # As Envoy does when it converts a WebSocket over HTTP/2 to HTTP/1.1.
        status, out = check(f"{url}/keyless")
        assert "body: Bad request: the Sec-WebSocket-Key header is missing. Does a proxy drop it?" in out, out

        status, out = check(f"{url}/dead")
        assert (status, out.startswith("CRITICAL - HTTP: status 502 Bad Gateway"), "body: 502 Bad Gateway" in out) == (
            2,
            True,
            True,
        ), out

        status, out = check(f"{url}/moved")
        assert (status, "Location: https://a.example/" in out, "does not follow redirects" in out) == (2, True, True), (
            out
        )

"""Running echod as its users do: what it prints and logs, how it reports a mistake, and how it ends.

Knows processes, signals and the log's formats. What is echoed, and how, is tested elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPResponse
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect, unix_connect

from echod import __version__
from tests.client import Client
from tests.daemon import COMMANDS, DEFAULT_PORTS, REACTOR_VARIABLE, WORDS, Daemon, Program, run, script, wait_until
from tests.frames import TEXT, client_frame, handshake, server_frame
from tests.loop import needed_native
from tests.tls import Certificate, trusting
from tests.tools import give_up, needed, open_files

PROGRAMS: tuple[Program, ...] = ("echod", "twistd", "twist")

NOBODY = 65534


def start(program: Program, *options: str, cwd: Path) -> tuple[int, str, str]:
    """Run a daemon that is expected to end by itself; return its exit status, standard output and standard error."""
    done = run(*COMMANDS[program], WORDS[program], *options, cwd=cwd)
    return done.returncode, done.stdout, done.stderr


def echo(client: ClientConnection, message: str | bytes) -> None:
    client.send(message)
    assert client.recv(timeout=10) == message


@contextmanager
def connected(daemon: Daemon) -> Iterator[ClientConnection]:
    """Yield a client that has received an echo."""
    with connect(daemon.url, open_timeout=10) as client:
        echo(client, "hello")
        yield client


# Ways to run.

WAYS: dict[str, dict[str, Any]] = {
    "echod": {"program": "echod"},
    "echod, asyncio": {"program": "echod", "reactor": "asyncio"},
    "echod, poll": {"program": "echod", "reactor": "poll"},
    "echod, select": {"program": "echod", "reactor": "select"},
    "twistd": {},
    "twistd, log file": {"has_log_file": True},
    "twistd, daemonized": {"is_daemonized": True},
    "twistd, asyncio": {"reactor": "asyncio"},
    "twistd, poll": {"reactor": "poll"},
    "twistd, select": {"reactor": "select"},
    "twistd, asyncio, daemonized": {"reactor": "asyncio", "is_daemonized": True},
    "twist": {"program": "twist"},
    "twist, log file": {"program": "twist", "has_log_file": True},
    "twist, asyncio": {"program": "twist", "reactor": "asyncio"},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_serves_and_ends_with_status_0_on_sigterm(way: dict[str, Any]) -> None:
    assert_ends_well(signal.SIGTERM, way)


# SIGINT is handled differently by each program and reactor, because Python has a handler of its own for it.
@pytest.mark.parametrize("way", ["echod", "echod, asyncio", "twistd", "twistd, asyncio", "twist"])
def test_serves_and_ends_with_status_0_on_sigint(way: str) -> None:
    assert_ends_well(signal.SIGINT, WAYS[way])


@pytest.mark.parametrize("reactor", [None, "asyncio"])
def test_the_command_serves_with_workers(reactor: str | None) -> None:
    with Daemon("--workers", "2", program="echod", reactor=reactor) as daemon, connected(daemon) as client:
        client.send("hello")
        assert client.recv(timeout=10) == "hello"
        pids = [int(pid) for pid in daemon.wait_for_log("workers: ([0-9]+), ([0-9]+)").groups()]
        for pid in pids:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            assert words[2:5] == [b"-m", b"echod", b"serve"]


def test_the_command_looks_for_no_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under twistd a plugin that can't be loaded is a traceback in the log, and a list of plugins is written."""
    monkeypatch.delenv(REACTOR_VARIABLE, raising=False)  # with --reactor it does, because reactors are plugins
    plugins = tmp_path / "twisted/plugins"
    plugins.mkdir(parents=True)
    (plugins / "broken.py").write_text("raise RuntimeError\n")
    with Daemon(program="echod", env={"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}) as daemon:
        assert "broken" not in daemon.log()
    assert [path.name for path in plugins.iterdir()] == ["broken.py"]


def assert_ends_well(number: signal.Signals, way: dict[str, Any]) -> None:
    """Assert that a client is served, and that it gets close code 1001 when a signal ends the daemon."""
    with Daemon(**way) as daemon, connected(daemon) as client:
        daemon.send_signal(number)
        with pytest.raises(ConnectionClosed) as closed:
            client.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        assert not daemon.wait()
        assert f"received {number.name}" in daemon.log()


def test_select_gets_no_more_connections_than_it_can_watch() -> None:
    """select() takes no descriptor from 1024 on. One such connection would break itself and all others."""
    with (
        open_files(3000),
        Daemon("--handshake-timeout", "60s", "--ping-interval", "0", reactor="select") as daemon,
        ExitStack() as clients,
    ):
        assert "max-connections 960," in daemon.log()
        opened: list[socket.socket] = []
        for _ in range(1100):
            # A connection over the limit may be reset before connect() returns.
            with suppress(ConnectionResetError):
                opened.append(clients.enter_context(socket.create_connection(daemon.address, timeout=30)))
        answers = [answer_to(client, handshake())[:12] for client in opened]
        assert answers[:960] == [b"HTTP/1.1 101"] * 960
        assert not any(answer.startswith(b"HTTP/1.1 101") for answer in answers[960:])
        opened[959].sendall(client_frame(TEXT, b"the last one"))
        assert opened[959].recv(100) == server_frame(TEXT, b"the last one")


def answer_to(client: socket.socket, octets: bytes) -> bytes:
    """Return the server's answer, or nothing if the server has reset the connection."""
    with suppress(OSError):
        client.sendall(octets)
        return client.recv(4096)
    return b""


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_the_lane_serves_plain_and_deflated_messages_with_any_python(compression: str | None) -> None:
    """The lane works with any Python. Debian's, for example, has zlib linked into the interpreter."""
    native = needed_native()
    with Daemon() as daemon:
        daemon.wait_for_log(rf"express lane: pump and codec \({native.isa}\)\n")
        with connect(f"{daemon.url}/info", compression=compression, open_timeout=10) as client:
            told = json.loads(client.recv(timeout=10))
            echo(client, "hello" * 100)
    assert (told["lane"], told["compression"]["mode"]) == ("pump", "mirror" if compression else "off")


def test_daemonized_prints_nothing_and_removes_its_pid_file() -> None:
    with Daemon(is_daemonized=True) as daemon:
        assert daemon.pid_path.exists()
        assert daemon.pid == int(daemon.pid_path.read_text())
        daemon.stop()
        assert daemon.output() == ""
        assert not daemon.pid_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give up privileges: run the tests as root")
@pytest.mark.parametrize("is_daemonized", [False, True])
def test_gives_up_its_privileges(is_daemonized: bool) -> None:
    with Daemon(uid=NOBODY, is_daemonized=is_daemonized) as daemon:
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert re.search(r"^Uid:\t(.*)$", status, re.MULTILINE)[1].split() == 4 * [str(NOBODY)]  # type: ignore[index]
        with connected(daemon):
            pass
        daemon.stop()
        if is_daemonized:
            assert not daemon.pid_path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root: run the tests as root")
@pytest.mark.parametrize("reactor", [None, "asyncio"])
def test_serves_in_an_empty_root_folder(tmp_path: Path, reactor: str | None) -> None:
    """Everything that Python loads or reads must be loaded before: the new root holds no file of any package."""
    certificate = Certificate(tmp_path / "key.pem")
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    (root / "dev" / "null").touch()
    ports = (*DEFAULT_PORTS, f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    options = ("--admin", "tcp:0:interface=127.0.0.1", "--no-faults")
    with Daemon(*options, ports=ports, program_options=[f"--chroot={root}", "--rundir=/"], reactor=reactor) as daemon:
        with connect(daemon.url, compression="deflate") as client:
            echo(client, "hello")
        with connect(daemon.url + "/json") as client:
            client.send("[ 1 ]")
            assert client.recv() == "[1]"
        with connect(daemon.url + "/info") as client:
            assert json.loads(client.recv())["peer"]["address"] == "127.0.0.1"
        with connect(daemon.urls[1], ssl=certificate.client(), server_hostname="localhost") as client:
            echo(client, "hello")
        assert (ask(daemon, "/").status, ask(daemon, "/healthz").status, ask(daemon, "/nope").status) == (200, 200, 404)
        for page in ("/", "/metrics", "/readyz", "/connections"):
            assert urlopen(daemon.admin_urls[0] + page, timeout=10).status == 200
        daemon.send_signal(signal.SIGHUP)
        wait_until(lambda: "keeps its old certificates" in daemon.log(), "the reload")
        with connect(daemon.urls[1], ssl=certificate.client(), server_hostname="localhost") as client:
            echo(client, "hello")


def test_a_second_signal_ends_it_at_once() -> None:
    with (
        Daemon("--drain-timeout", "60s", "--close-timeout", "60s") as daemon,
        socket.create_connection(daemon.address) as client,
    ):
        # A client that answers no Close frame keeps the drain waiting.
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 101 ")
        daemon.send_signal(signal.SIGTERM)
        assert client.recv(4096).startswith(b"\x88\x0c\x03\xe9")
        assert not daemon.has_ended()
        start = time.monotonic()
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0
        # Without the second signal the drain would wait for 60 seconds.
        assert time.monotonic() - start < 30


# The daemon as the first process of a container. Every such process has the process id 1, like the one before it.


@contextmanager
def first_process(folder: Path, *arguments: str) -> Iterator[Path]:
    """Run twistd as process 1 with these arguments until it is killed, and yield the path of its log."""
    isolated = [needed("unshare", "util-linux"), *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    isolated += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    if run(*isolated, "true").returncode:
        give_up("no process namespace: run as root, or where `unshare --user --pid` is allowed")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([*isolated, script("twistd"), *arguments], cwd=folder, stdout=output, stderr=output)
    try:
        wait_until(
            lambda: process.poll() is not None or "echod " + __version__ in log.read_text(), "twistd to serve or to end"
        )
        yield log
    finally:
        process.kill()
        process.wait()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_container_starts_again_on_its_unix_sockets(workers: str, tmp_path: Path) -> None:
    path, admin = tmp_path / "socket", tmp_path / "admin"
    options = ["echod", f"--port=unix:{path}", f"--admin=unix:{admin}", "--workers", workers]
    for _ in range(2):
        with first_process(tmp_path, "-n", "--pidfile=", *options) as log:
            assert accepts(admin), log.read_text()
            with unix_connect(str(path)) as client:
                echo(client, "hello")
        wait_until(lambda: not accepts(path), "the daemon and its workers to be gone")
        assert path.exists()
    assert {found.name for found in tmp_path.iterdir()} == {"socket", "admin", "log"}


def test_a_killed_container_explains_its_old_pid_file(tmp_path: Path) -> None:
    with first_process(tmp_path, "-n", "echod", "--port=unix:socket"):
        assert (tmp_path / "twistd.pid").read_text() == "1"
    wait_until(lambda: not accepts(tmp_path / "socket"), "the daemon to be gone")
    with first_process(tmp_path, "-n", "echod", "--port=unix:socket") as log:
        assert log.read_text().splitlines() == [
            f"echod: the pid file {tmp_path / 'twistd.pid'} is of an earlier process with the "
            "same id as this one, 1: remove it, or start twistd with --pidfile= for none"
        ]


@pytest.mark.parametrize("way", ["-n", "--logfile=log"])
def test_a_second_start_in_the_same_folder_explains_the_pid_file(way: str, tmp_path: Path) -> None:
    with Daemon() as daemon:
        (tmp_path / "twistd.pid").write_text(str(daemon.pid))
        done = run(script("twistd"), way, "echod", "--port=tcp:0:interface=127.0.0.1", cwd=tmp_path)
        error = assert_refused((done.returncode, done.stdout, done.stderr))
        assert f"says that process {daemon.pid} runs already" in error
        assert "--pidfile=" in error
    assert [path.name for path in tmp_path.iterdir()] == ["twistd.pid"]


# Sockets that systemd passes. Sockets with names are tested in tests/system/test_systemd.py.


@pytest.mark.parametrize("way", ["twistd", "twistd, daemonized", "twist"])
@pytest.mark.parametrize("env", [{}, {"LISTEN_FDNAMES": ""}], ids=["no names", "empty names"])
def test_sockets_without_names_are_served(env: dict[str, str], way: str) -> None:
    """Nothing else is served, either: the default would be a port on every interface."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        urls = ["ws://{}:{}".format(*passed.getsockname()) for passed in (first, second)]
        with Daemon(ports=(), sockets=(first, second), env=env, **WAYS[way]) as daemon:
            assert daemon.urls == urls
            for url in urls:
                with connect(url, open_timeout=10) as client:
                    echo(client, "hello")


def test_a_socket_without_a_name_is_called_unknown() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as passed,
        Daemon(ports=("systemd:domain=INET:name=unknown",), sockets=(passed,)) as daemon,
        connected(daemon),
    ):
        assert daemon.port == passed.getsockname()[1]


# The addresses of the host that the daemon serves.


@pytest.mark.parametrize("workers", [1, 2])
def test_without_an_interface_it_serves_ipv4_and_ipv6(workers: int, certificate: Certificate) -> None:
    path = str(certificate.path).replace(":", "\\:")
    ports = [
        "tcp:0",
        f"ssl:0:privateKey={path}",
        f"tls:{Path(path).parent}:port=0",
        "haproxy:tcp:0",
        f"haproxy:ssl:0:privateKey={path}",
    ]
    with Daemon("--workers", str(workers), "--admin", "tcp:0", ports=ports) as daemon:
        assert daemon.log().count(" (IPv6 and IPv4)") == len(ports) + 1
        numbers = [urlsplit(url).port for url in daemon.urls]
        for host, kind in (("127.0.0.1", "TCP4"), ("::1", "TCP6")):
            header = f"PROXY {kind} {host} {host} 1 2\r\n".encode()
            contexts = [None, certificate.client()]
            for number, context, first in zip(
                numbers, [None, *2 * [contexts[1]], *contexts], [*3 * [b""], header, header], strict=True
            ):
                client = Client((host, number), context, "/info", first)
                assert json.loads(client.frame().payload)["peer"]["address"] == host
                assert client.echo() == b"hello"
                client.leave()
            with socket.create_connection((host, urlsplit(daemon.admin_urls[0]).port or 0), timeout=20) as admin:
                admin.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                assert admin.recv(4096).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_port_for_both_families_and_one_for_ipv6_are_the_same(program: Program, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        assert "in use" in assert_refused(start(program, "--port", f"tcp:{number}", cwd=tmp_path))
    assert "in use" in assert_refused(
        start(program, "--port", f"tcp:{number}", "--port", f"tcp6:{number}", cwd=tmp_path)
    )


# Peers on a Unix socket.


def test_a_proxy_on_a_unix_socket_is_trusted_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with (
        Daemon("--trust-proxy", "1", ports=[f"unix:{path}"]),
        unix_connect(str(path), "ws://localhost/info", additional_headers={"X-Forwarded-For": "192.0.2.7"}) as client,
    ):
        assert json.loads(client.recv())["peer"] == {"address": "192.0.2.7", "port": None}


# What the daemon prints when it starts.


@pytest.mark.parametrize("program", PROGRAMS)
def test_prints_one_line_per_address_and_one_with_the_limits(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    ports = ["tcp:0:interface=127.0.0.1", r"tcp:0:interface=\:\:1", f"unix:{path}"]
    limits = [
        "--max-message-size",
        "64KiB",
        "--compression",
        "off",
        "--handshake-timeout",
        "250ms",
        "--max-connections",
        "7",
    ]
    with Daemon(*limits, program=program, ports=ports) as daemon:
        log = daemon.log()
        assert log.count("listening on") == len(ports)
        assert re.fullmatch(r"ws://127\.0\.0\.1:[0-9]+", daemon.urls[0])
        assert re.fullmatch(r"ws://\[::1\]:[0-9]+", daemon.urls[1])
        assert daemon.urls[2] == f"unix:{path}"
        lines = [line for line in log.splitlines() if f"echod {__version__}: " in line]
        assert len(lines) == 1
        for limit in ("max-message-size 64KiB", "compression off", "handshake-timeout 250ms", "max-connections 7,"):
            assert limit in lines[0]
        for url in daemon.urls[:2]:
            with connect(url) as client:
                echo(client, "hello")
        with unix_connect(str(path)) as client:
            echo(client, "hello")
    assert not path.exists()


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_no_line_of_the_log_is_about_parts_of_twisted(
    workers: str, program: Program, certificate: Certificate, tmp_path: Path
) -> None:
    address = ":interface=127.0.0.1"
    secure = f"ssl:0:privateKey={certificate.path}{address}"
    ports = [f"tcp:0{address}", f"unix:{tmp_path / 'socket'}", secure, f"haproxy:tcp:0{address}", f"haproxy:{secure}"]
    options = ("--admin", f"tcp:0{address}", "--admin", secure, "--workers", workers, "--log-format", "json")
    with Daemon(*options, ports=ports, program=program) as daemon:
        daemon.stop()
        records = [json.loads(line) for line in daemon.log().splitlines()]
    of_service = [found["message"] for found in records if found["namespace"] == "echod.service"]
    assert {found["namespace"] for found in records} <= {"echod.service", "echod.workers"}
    assert len([line for line in of_service if line.startswith("listening on ")]) == 5
    assert len([line for line in of_service if line.startswith("admin on ")]) == 2


@pytest.mark.parametrize("program", PROGRAMS)
def test_version(program: Program, tmp_path: Path) -> None:
    assert start(program, "--version", cwd=tmp_path) == (0, f"echod {__version__}\n", "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_shows_every_option_and_its_default(program: Program, tmp_path: Path) -> None:
    status, output, error = start(program, "--help", cwd=tmp_path)
    assert (status, error) == (0, "")
    for option in (
        "--port ENDPOINT",
        "--max-message-size SIZE",
        "--compression MODE",
        "--handshake-timeout DURATION",
        "--log-messages",
        "--log-format FORMAT",
    ):
        assert option in output
    for default in ("[tcp:8080]", "[16MiB]", "[mirror]", "[5s]", "[text]"):
        assert default in output


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_ready_file_says_where_it_serves(workers: str, program: Program, tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    earlier = '{"urls": []}'
    path.write_text(earlier)
    ports = ["tcp:0", "throwaway:0", f"unix:{tmp_path / 'socket'}"]
    words = [*(word for port in ports for word in ("--port", port)), "--admin", "tcp:0:interface=127.0.0.1"]
    command = [*COMMANDS[program], WORDS[program], *words, "--workers", workers, "--ready-file", str(path)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: path.exists() and path.read_text() != earlier, "the ready file")
            found = json.loads(path.read_text())
            assert (found["pid"], found["version"]) == (process.pid, __version__)
            for url in found["urls"][:2]:
                trust = trusting(cadata=found["authority"]) if url.startswith("wss:") else None
                with connect(url, ssl=trust) as client:
                    echo(client, "hello")
            with unix_connect(found["urls"][2].removeprefix("unix:")) as client:
                echo(client, "hello")
            with urlopen(f"{found['admin_urls'][0]}/readyz") as answer:
                assert answer.read() == b"serving\n"
        finally:
            process.terminate()
        assert process.wait() == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_standard_output_has_the_ready_line_alone(program: Program, tmp_path: Path) -> None:
    command = [*COMMANDS[program], WORDS[program], "--port", "tcp:0", "--ready-file", "-"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["urls"][0]
        with connect(url) as client:
            echo(client, "hello")
        process.terminate()
        rest, log = process.communicate()
    assert (process.returncode, rest) == (0, "")
    assert "listening on " in log


# What it would do.


@pytest.mark.parametrize("program", PROGRAMS)
def test_validation_listens_on_nothing(
    program: Program, port_in_use: int, certificate: Certificate, tmp_path: Path
) -> None:
    """Also beside a daemon that runs in the same folder."""
    (tmp_path / "twistd.pid").write_text("1")
    ports = (f"tcp:{port_in_use}", f"unix:{tmp_path / 'socket'}", f"ssl:0:privateKey={certificate.path}", "systemd")
    options = [*(word for port in ports for word in ("--port", port)), "--admin", "tcp:0", "--validate"]
    valid = "echod: the options, and the files that they name, are valid\n"
    assert start(program, *options, cwd=tmp_path) == (0, valid, "")
    if program == "twistd":
        done = run(script("twistd"), "echod", *options, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, valid, "")
    assert [path.name for path in tmp_path.iterdir()] == ["twistd.pid"]
    wrong = f"ssl:0:privateKey={tmp_path / 'twistd.pid'}"
    assert "twistd.pid" in assert_refused(start(program, *options, "--port", wrong, cwd=tmp_path))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--version", "--help", "--validate"])
def test_output_that_can_not_be_written_is_one_line(option: str, program: Program) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMANDS[program], WORDS[program], option], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    told = "echod: can't write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr) == (os.EX_IOERR, told)


# Mistakes.

WRONG = {
    "no such kind of endpoint": ("--port", "nonsense:1"),
    "an endpoint without its port": ("--port", "tcp"),
    "a port that is no number": ("--port", "tcp:http"),
    "a port out of range": ("--port", "tcp:99999"),
    "an unknown parameter of an endpoint": ("--port", "tcp:0:nonsense=1"),
    "an address of another machine": ("--port", "tcp:0:interface=192.0.2.1"),
    "a line break in an endpoint": ("--port", "tcp:0:interface=a\nb"),
    "a nested endpoint": ("--port", "haproxy:nonsense"),
    "a socket in no folder": ("--port", "unix:/nonexistent/socket"),
    "a socket path too long": ("--port", "unix:" + 200 * "a"),
    "a missing certificate": ("--port", "ssl:0:privateKey=/nonexistent.pem"),
    "an invalid certificate": ("--port", "ssl:0:privateKey=/dev/null"),
    "the default certificate, missing": ("--port", "ssl:0"),
    "a missing folder of certificates": ("--port", r"tls:/nonexistent:port=0:interface=127.0.0.1"),
    "a folder without a certificate": ("--port", r"tls:.:port=0:interface=127.0.0.1"),
    "no socket from systemd": ("--port", "systemd:domain=INET:index=0"),
    "a second endpoint": ("--port", "tcp:0:interface=127.0.0.1", "--port", "nonsense:1"),
    "an SI unit": ("--max-message-size", "16MB"),
    "a size of 0": ("--max-message-size", "0"),
    "a size without a value": ("--max-message-size",),
    "an unknown unit of time": ("--handshake-timeout", "5h"),
    "a negative duration": ("--handshake-timeout", "-1s"),
    "a close without end": ("--close-timeout", "0"),
    "an unknown compression": ("--compression", "gzip"),
    "an unknown log format": ("--log-format", "xml"),
    "no connections": ("--max-connections", "0"),
    "an unknown option": ("--nonsense",),
    "a value for a flag": ("--log-messages=yes",),
    "a stray argument": ("stray",),
}


@pytest.mark.parametrize(("program", "options"), list(zip(cycle(PROGRAMS), WRONG.values(), strict=False)), ids=WRONG)
def test_a_wrong_value_is_one_line_and_status_1(program: Program, options: tuple[str, ...], tmp_path: Path) -> None:
    """Each program refuses a third of them: the same code does it in all three, and a start takes a second."""
    assert_refused(start(program, *options, cwd=tmp_path))


@pytest.fixture
def port_in_use() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_port_in_use_is_one_line_and_status_1(program: Program, port_in_use: int, tmp_path: Path) -> None:
    error = assert_refused(start(program, "--port", f"tcp:{port_in_use}:interface=127.0.0.1", cwd=tmp_path))
    assert str(port_in_use) in error
    assert "in use" in error


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", ["--port", "--admin"])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_start_that_fails_leaves_nothing_behind(
    workers: str, option: str, program: Program, port_in_use: int, tmp_path: Path
) -> None:
    options = [
        "--port",
        f"unix:{tmp_path / 'socket'}",
        option,
        f"tcp:{port_in_use}:interface=127.0.0.1",
        "--workers",
        workers,
    ]
    assert "in use" in assert_refused(start(program, *options, cwd=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_socket_in_use_is_one_line_and_status_1(program: Program, tmp_path: Path) -> None:
    with Daemon(ports=[f"unix:{tmp_path / 'socket'}"]):
        assert "in use" in assert_refused(start(program, "--port", f"unix:{tmp_path / 'socket'}", cwd=tmp_path))


def assert_refused(ended: tuple[int, str, str]) -> str:
    """Assert that a start was refused cleanly, and return the error message."""
    status, output, error = ended
    assert status == 1
    assert re.fullmatch(r"echod: [^\n]+\n", error)
    # twistd has already opened its log when it finds the port in use.
    assert "Traceback" not in output
    assert "Error" not in output
    return error


def test_a_port_in_use_is_logged_when_daemonized(port_in_use: int, tmp_path: Path) -> None:
    done = run(
        script("twistd"),
        "--pidfile=pid",
        "--logfile=log",
        "echod",
        "--port",
        f"tcp:{port_in_use}:interface=127.0.0.1",
        cwd=tmp_path,
    )
    log = (tmp_path / "log").read_text()
    # twistd reports that there was an error, cuts the text, and points to the log.
    assert done.returncode == 1
    assert "can't listen on" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr + log
    # The message precedes the removal of the pid file.
    wait_until(lambda: not (tmp_path / "pid").exists(), "the pid file to go")
    assert re.search(f"can't listen on .*{port_in_use}.*in use", log)


# The log.

TEXT_LINE = re.compile(r"(?:\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[\w.-]+\] |\t)[^\n]*")
JOURNAL_LINE = re.compile(r"<[2-7]>[^\n]+")


def parse_text(line: str) -> str:
    assert TEXT_LINE.fullmatch(line), line
    return line.partition("] ")[2]


def parse_journal(line: str) -> str:
    assert JOURNAL_LINE.fullmatch(line), line
    return line[3:]


def parse_json(line: str) -> str:
    record = json.loads(line)
    own = {"connection"} if record["namespace"] == "echod.connection" else set()
    if "length" in record:
        own |= {"event", "type", "length", "payload"}
    assert set(record) - {"traceback"} == {"time", "level", "namespace", "message"} | own
    assert record["level"] in ("info", "warn", "error", "critical")
    assert isinstance(record["message"], str)
    return str(record["message"])


LOG_FORMATS: dict[str, Callable[[str], str]] = {"text": parse_text, "json": parse_json, "journal": parse_journal}

LOG_PLACES: dict[str, dict[str, Any]] = {
    "twistd": {},
    "twistd, log file": {"has_log_file": True},
    "twistd, daemonized": {"is_daemonized": True},
    "twist": {"program": "twist"},
    "twist, log file": {"program": "twist", "has_log_file": True},
}


@pytest.mark.parametrize("log_format", LOG_FORMATS)
@pytest.mark.parametrize("place", LOG_PLACES.values(), ids=LOG_PLACES)
def test_every_line_of_the_log_is_in_its_format(place: dict[str, Any], log_format: str) -> None:
    with Daemon("--log-format", log_format, "--log-messages", **place) as daemon:
        with connected(daemon):
            assert ask(daemon, "/json").status == 426
            assert ask(daemon, "/", Upgrade="websocket").status == 400
            daemon.stop()
        if daemon.log() != daemon.output():
            assert daemon.output() == ""
        messages = [LOG_FORMATS[log_format](line) for line in daemon.log().splitlines()]
    assert any(message.startswith("listening on ws://") for message in messages)
    assert any(message.startswith(f"echod {__version__}: ") for message in messages)
    assert "#1: recv text: hello" in messages
    assert sum("refused a handshake from " in message for message in messages) == 2
    assert "received SIGTERM" in messages


def test_a_log_format_given_to_twist_is_for_twist() -> None:
    with Daemon(program="twist", program_options=["--log-format", "text"]) as daemon:
        assert re.search(r"^\S+ \[echod\.service#info\] listening on ws://", daemon.log(), re.MULTILINE)


def test_a_log_format_given_to_both_is_refused(tmp_path: Path) -> None:
    done = run(script("twist"), "--log-format=text", "echod", "--log-format=text", "--port=tcp:0", cwd=tmp_path)
    assert_refused((done.returncode, done.stdout, done.stderr))


LOGGED: dict[str, tuple[str | bytes, str]] = {
    "text": ("hello", "hello"),
    "empty": ("", ""),
    "no ASCII": ("grüß dich, 世界 🎈", "grüß dich, 世界 🎈"),
    "line break": ("a\n#1: recv text: b\r\nc", r"a\n#1: recv text: b\r\nc"),
    "other line breaks": ("a\u2028b\x85c\x0bd", r"a\u2028b\x85c\x0bd"),
    "escape sequence": ("\x1b[31mred", r"\x1b[31mred"),
    "C1 escape sequence": ("\x9b31mred", r"\x9b31mred"),
    "backslash": (r"a\nb", r"a\\nb"),
    "right-to-left override": ("abc\u202exe.txt", r"abc\u202exe.txt"),
    "format string": ("{log_time} %s %(a)s {0}", "{log_time} %s %(a)s {0}"),
    "long": (1000 * "a", 256 * "a" + "… (1000 octets)"),
    "long, no ASCII": (1000 * "é", 256 * "é" + "… (2000 octets)"),
    "binary": (b"a\x00\xff\n", r"a\x00\xff\n"),
    "long binary": (1000 * b"a", 256 * "a" + "… (1000 octets)"),
}


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_log_messages_prints_each_message_escaped_on_one_line(log_format: str) -> None:
    with Daemon("--log-messages", "--log-format", log_format) as daemon:
        with connect(daemon.url) as client:
            for message, _ in LOGGED.values():
                echo(client, message)
        messages = [LOG_FORMATS[log_format](line) for line in daemon.log().split("\n")[:-1]]
    assert [message for message in messages if message.startswith("#")] == [
        f"#1: recv {'text' if isinstance(sent, str) else 'binary'}: {logged}" for sent, logged in LOGGED.values()
    ]


@pytest.mark.parametrize("message", [1000 * b"\xff", 1000 * "\u202e"], ids=["binary", "text"])
def test_the_log_of_a_long_message_has_its_size_before_escaping(message: str | bytes) -> None:
    octets = len(message.encode() if isinstance(message, str) else message)
    with Daemon("--log-messages") as daemon:
        with connect(daemon.url) as client:
            echo(client, message)
        line = daemon.wait_for_log(r"#1: recv .*")[0]
    assert line.endswith(f"… ({octets} octets)")
    assert len(line) < 2000


@pytest.mark.parametrize("log_format", LOG_FORMATS)
def test_log_frames_tells_what_a_client_sent(log_format: str) -> None:
    with Daemon("--log-frames", "--log-format", log_format) as daemon:
        daemon.wait_for_log("express lane: (off|.* because of --log-frames)")
        with connect(daemon.url, compression=None, additional_headers={"Cookie": "a=secret"}) as client:
            echo(client, "a\n#1: b")
        daemon.wait_for_log("#1: end: ")
        lines = [line for line in daemon.log().splitlines() if "#1: " in line]
    assert "secret" not in daemon.log()
    if log_format == "json":
        records = [json.loads(line) for line in lines]
        assert {record["connection"] for record in records} == {"1"}
        assert [record["event"] for record in records] == ["opening", "answer", *["frame"] * 4, "end"]
        assert [record["direction"] for record in records[2:6]] == ["in", "out", "in", "out"]
        assert (records[2]["type"], records[2]["payload"], records[2]["masked"]) == ("text", r"a\n#1: b", True)
        assert (records[6]["code"], records[6]["closer"], records[6]["outcome"]) == (1000, "client", "clean")
        return
    messages = [LOG_FORMATS[log_format](line) for line in lines]
    assert re.match(r"#1: opening from \S+: GET / HTTP/1.1 \|.* \| Cookie: \(8 octets, not shown\)", messages[0])
    assert messages[1].startswith("#1: answer: HTTP/1.1 101 Switching Protocols | ")
    assert messages[2:6] == [
        r"#1: in text fin masked length=7: a\n#1: b",
        r"#1: out text fin length=7: a\n#1: b",
        "#1: in close fin masked length=2: 1000",
        "#1: out close fin length=2: 1000",
    ]
    assert messages[6].startswith("#1: end: clean; closed by the client with 1000; received frames=2 messages=1 ")


def test_messages_are_not_logged_unless_asked_for() -> None:
    with Daemon() as daemon, connected(daemon):
        assert "recv" not in daemon.log()
        assert "hello" not in daemon.log()


# Plain HTTP.


def ask(daemon: Daemon, target: str, method: str = "GET", **headers: str) -> HTTPResponse:
    connection = HTTPConnection(*daemon.address, timeout=10)
    connection.request(method, target, headers=headers)
    response = connection.getresponse()
    # Read the body here, so that the caller has nothing to close.
    body = response.read()
    response.read = lambda amt=None: body  # type: ignore[method-assign]  # noqa: ARG005
    connection.close()
    return response


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon("--no-console") as daemon:
        yield daemon


@pytest.mark.parametrize(
    "target", ["/", "/any/path", "/?redirect=http://example.com/&after=x", "/?redirect=http://example.com/&after=1"]
)
def test_plain_http_is_told_to_upgrade(daemon: Daemon, target: str) -> None:
    response = ask(daemon, target)
    body = response.read()
    assert response.status == 426
    assert response.getheader("Upgrade") == "websocket"
    assert response.getheader("Location") is None
    assert re.fullmatch(rb"[^\n]*WebSocket[^\n]*\n", body)
    assert b"example.com" not in body
    everything = (str(response.msg) + body.decode()).lower()
    for name in ("autobahn", "twisted", "python", "refresh", "<"):
        assert name not in everything


def test_a_head_request_gets_no_body(daemon: Daemon) -> None:
    response = ask(daemon, "/", "HEAD")
    assert (response.status, response.getheader("Upgrade"), response.read()) == (426, "websocket", b"")


# SIGHUP.


@contextmanager
def wss(daemon: Daemon, certificate: Certificate) -> Iterator[ClientConnection]:
    """Yield a TLS client that trusts only this certificate, and that has received an echo."""
    with connect(f"wss://localhost:{daemon.port}", ssl=certificate.client(), open_timeout=10) as client:
        echo(client, "hello")
        yield client


def test_a_client_without_a_common_tls_version_is_logged(certificate: Certificate) -> None:
    client = certificate.client()
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with Daemon(ports=[f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}"]) as daemon:
        with socket.create_connection(("127.0.0.1", daemon.port), 10) as plain, pytest.raises(ssl.SSLError):
            client.wrap_socket(plain, server_hostname="localhost")
        daemon.wait_for_log("refused a handshake from 127.0.0.1: TLS: unsupported protocol")
        with wss(daemon, certificate):
            pass


@pytest.mark.parametrize("kind", ["tcp:0", "ssl:0:privateKey={}", "haproxy:tcp:0", "haproxy:ssl:0:privateKey={}"])
def test_an_ipv4_client_of_an_ipv6_socket_is_logged_with_its_ipv4_address(kind: str, certificate: Certificate) -> None:
    with Daemon(ports=[rf"{kind.format(certificate.path)}:interface=\:\:"]) as daemon:
        plain = socket.create_connection(("127.0.0.1", daemon.port), 10)
        told = {"address": "127.0.0.1", "port": plain.getsockname()[1]}
        if kind.startswith("haproxy:"):
            # PROXY version 2 with the command LOCAL: the proxy itself is the peer, as in its health check.
            plain.sendall(b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
        url = f"{daemon.url.split(':')[0]}://localhost/info"
        with connect(url, sock=plain, ssl=certificate.client() if "ssl" in kind else None) as client:
            assert json.loads(client.recv())["peer"] == told


@pytest.mark.parametrize("way", ["twistd", "twistd, daemonized", "twistd, asyncio", "twist"])
def test_sighup_loads_renewed_certificates_and_drops_no_connection(way: str, tmp_path: Path) -> None:
    old = Certificate(tmp_path / "a.pem")
    with (
        Daemon(ports=[f"tls:{tmp_path}:port=0:interface=127.0.0.1"], **WAYS[way]) as daemon,
        wss(daemon, old) as before,
    ):
        new = Certificate(tmp_path / "a.pem")
        daemon.send_signal(signal.SIGHUP)
        daemon.wait_for_log("reloaded")
        with pytest.raises(ssl.SSLCertVerificationError), wss(daemon, old):
            pass
        with wss(daemon, new):
            pass
        # A broken file changes nothing, and is reported in one line.
        new.path.write_bytes(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n")
        daemon.send_signal(signal.SIGHUP)
        told = daemon.wait_for_log(r"reload failed: .* keeps its old certificates: .*")
        assert str(new.path) in told[0]
        assert daemon.log().count("reloaded") == 1
        with wss(daemon, new):
            pass
        echo(before, "still here")


def test_a_sighup_that_nohup_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # child processes inherit this
    try:
        with Daemon() as daemon:
            signal.signal(signal.SIGHUP, before)
            daemon.send_signal(signal.SIGHUP)
            with connect(daemon.url) as client:
                echo(client, "still here")
            assert "SIGHUP" not in daemon.log()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_closing_the_terminal_ends_its_daemon(tmp_path: Path) -> None:
    """SIGHUP from a closed terminal still ends the daemon. Otherwise the daemon would run on with nobody to stop it."""
    master, slave = os.openpty()
    command = [
        script("twistd"),
        "-n",
        "--pidfile=",
        f"--logfile={tmp_path}/log",
        "echod",
        "--port",
        "tcp:0:interface=127.0.0.1",
    ]
    log = tmp_path / "log"
    with subprocess.Popen(
        ["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave, cwd=tmp_path
    ) as daemon:
        os.close(slave)
        try:
            wait_until(lambda: log.exists() and "max-message-size" in log.read_text(), "the daemon to start")
            os.kill(daemon.pid, signal.SIGHUP)
            wait_until(lambda: "reloaded" in log.read_text(), "the daemon to reload")
            os.close(master)
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
    assert log.read_text().count("received SIGHUP") == 2

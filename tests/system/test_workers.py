"""Workers under a real systemd: the service of etc/systemd/ with `--workers`, from the first start to the last
signal."""

from __future__ import annotations

import json
import os
import re
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests import metrics_text
from tests.daemon import wait_until
from tests.system.nspawn import System
from tests.system.service import (
    CERTIFICATE,
    ERROR,
    INFO,
    IPV4,
    PLACES,
    PRIVATE,
    SERVICE,
    TLS,
    Place,
    assert_drains_longer_than_the_unit_says,
    assert_echo,
    assert_exposure,
    assert_serves,
    drop_in,
    drop_in_file,
    main_pid,
    messages,
    options,
    send_signal,
    serve_tls,
    start,
    visitors,
    wait_for_more,
)
from tests.tls import Certificate

ADMIN = ("127.0.0.1", 9090)
TWO = "--workers 2 --admin tcp:9090:interface=127.0.0.1"

PROCESSORS = sorted(os.sched_getaffinity(0))[:2]

MANY = 20
"""The number of connections. A worker gets none of them only once in half a million runs."""


def workers(system: System) -> set[int]:
    """Return the service's live child processes, as the system numbers them."""
    pid = main_pid(system)
    return {int(child) for child in system.path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@contextmanager
def served(
    system: System, context: ssl.SSLContext | None = None, place: Place = IPV4
) -> Iterator[list[tuple[ClientConnection, int]]]:
    """Yield `MANY` connections, each with the process that serves it."""
    url, found = f"{'ws' if context is None else 'wss'}://localhost/info", []
    with ExitStack() as stack:
        for _ in range(MANY):
            client = connect(url, sock=system.connect(*place), ssl=context, compression=None, open_timeout=60)
            connection = stack.enter_context(client)
            found.append((connection, json.loads(connection.recv(timeout=30))["process"]))
        yield found


@contextmanager
def many(
    system: System, context: ssl.SSLContext | None = None, place: Place = IPV4
) -> Iterator[list[tuple[ClientConnection, int]]]:
    """Yield connections to both workers, each with the process that serves it. Both must serve."""
    with served(system, context, place) as found:
        assert {process for _, process in found} == workers(system)
        yield found


def get(system: System, path: str) -> tuple[int, str]:
    """Send a request to the admin site."""
    connection = HTTPConnection("localhost")
    connection.sock = system.connect(ADMIN)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def samples(system: System) -> dict[str, float]:
    """Return every number on /metrics."""
    return metrics_text.samples(get(system, "/metrics")[1])


def is_ready(system: System) -> bool:
    return get(system, "/readyz") == (200, "serving\n")


def told(system: System, text: str) -> Callable[[], bool]:
    """Return a function that tells whether a journal line contains `text`."""
    return lambda: any(text in line for line in messages(system))


def is_lost(connection: ClientConnection) -> bool:
    """Tell whether the connection has ended without a Close frame."""
    try:
        connection.recv(timeout=30)
    except ConnectionClosed as error:
        return error.rcvd is None
    return False


@pytest.mark.parametrize("given", ["2", "auto"])
def test_all_workers_serve(given: str, system: System) -> None:
    if given == "auto" and len(PROCESSORS) < 2:
        pytest.skip("with one processor there are no workers: run on a machine with two")
    # `auto` counts the processors that it may use. There may be more here than this number of connections would reach.
    drop_in(system, f"[Service]\nCPUAffinity={' '.join(map(str, PROCESSORS))}\n")
    options(system, f"--workers {given}")
    assert_exposure(system, SERVICE, 1.2)
    start(system)
    # This holds as soon as systemctl has returned.
    assert told(system, "max-message-size")()
    assert len(workers(system)) == 2
    with many(system) as found:
        for connection, _ in found:
            assert_echo(connection)
        expected = f"connections: {MANY} of at most "
        wait_until(
            lambda: system.show(SERVICE, "StatusText").startswith(expected), "the status to count the connections"
        )
        assert system.show(SERVICE, "StatusText").endswith(", workers: 2 of 2")
    for pid in (main_pid(system), *workers(system)):
        facts = dict(
            line.split(":\t", 1)
            for line in system.path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert (facts["NoNewPrivs"], facts["Seccomp"]) == ("1", "2")
        assert {facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {""}
        assert int(facts["Uid"].split()[0]) > 60_000
    assert [
        entry
        for entry in system.journal(SERVICE)
        if int(entry["PRIORITY"]) < INFO and entry["SYSLOG_IDENTIFIER"] == "echod"
    ] == []


def test_it_is_ready_when_both_serve(system: System) -> None:
    # Python runs these lines first. They make one worker wait for a file.
    lines = (
        "import json, os, time",
        "worker = json.loads(os.environ.get('ECHOD_WORKER', '[0]'))",
        "while worker[0] == 1 and not os.path.exists('/etc/go-on'): time.sleep(0.05)",
    )
    system.write("/etc/held-back/sitecustomize.py", "\n".join(lines) + "\n")
    drop_in(system, "[Service]\nEnvironment=PYTHONPATH=/etc/held-back\n")
    options(system, TWO)
    system.run("systemctl", "start", "--no-block", SERVICE)
    wait_until(told(system, "express lane: "), "the first to serve")
    # Both workers' sockets get connections, but only one worker serves them.
    wait_until(lambda: get(system, "/readyz") == (503, "starting\n"), "the admin site")
    assert system.show(SERVICE, "ActiveState") == "activating"
    system.write("/etc/go-on", "")
    system.wait_for(SERVICE, "ActiveState", "active")
    assert is_ready(system)
    with many(system):
        pass


def test_lines_of_workers_have_their_priority_in_the_journal(system: System) -> None:
    options(system, f"{TWO} --log-messages")
    start(system)
    with many(system) as found:
        for connection, _ in found:
            assert_echo(connection, "<3>not an error\n<0>nor a panic")
        victim = found[0][1]
        send_signal(system, "KILL", victim)
        wait_until(told(system, "the next starts in"), "the line about the worker's end")
    own = [entry for entry in system.journal(SERVICE) if entry["SYSLOG_IDENTIFIER"] == "echod"]
    received = [entry for entry in own if ": recv " in entry["MESSAGE"]]
    shown = r"recv text: <3>not an error\n<0>nor a panic"
    expected = Counter(f"worker {process}: #{process}: {shown}" for _, process in found)
    # Each connection has a number of its own.
    lines = {entry["MESSAGE"] for entry in received}
    assert Counter(re.sub("(#[0-9]+)-[0-9]+", r"\1", line) for line in lines) == expected
    assert {int(entry["PRIORITY"]) for entry in received} == {INFO}
    (ended,) = [entry for entry in own if "was killed by" in entry["MESSAGE"]]
    assert ended["MESSAGE"] == f"worker {victim} was killed by SIGKILL; the next starts in 100ms"
    assert int(ended["PRIORITY"]) == ERROR


def test_a_failed_first_start_fails_the_unit(system: System) -> None:
    # Python runs these lines first. They give the workers, but not the parent, an invalid option.
    lines = ("import os", "if 'ECHOD_WORKER' in os.environ: os.environ['ECHOD_NATIVE'] = '2'")
    system.write("/etc/spoilt/sitecustomize.py", "\n".join(lines) + "\n")
    drop_in(system, "[Service]\nRestart=no\nEnvironment=PYTHONPATH=/etc/spoilt\n")
    options(system, TWO)
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert (system.show(SERVICE, "Result"), system.show(SERVICE, "ExecMainStatus")) == ("exit-code", "1")
    assert any("echod: worker " in line and "can't start: ECHOD_NATIVE" in line for line in messages(system))


def test_a_reload_gives_both_workers_the_new_certificates(
    system: System, certificate: Certificate, tmp_path: Path
) -> None:
    serve_tls(system, certificate, 8443, TWO)
    drop_in_file(system, TLS)
    start(system)
    place = Place(("127.0.0.1", 8443), IPV4.family)
    pids = main_pid(system), workers(system)
    with many(system, certificate.client(), place) as found:
        renewed = Certificate(tmp_path / "renewed.pem")
        system.path(CERTIFICATE).write_bytes(renewed.path.read_bytes())
        system.run("systemctl", "reload", SERVICE)
        for pid in pids[1]:
            wait_until(told(system, f"worker {pid}: reloaded"), "the reload")
        with many(system, renewed.client(), place) as others:
            for connection, _ in (*found, *others):
                assert_echo(connection)
    assert (main_pid(system), workers(system)) == pids
    system.wait_for(SERVICE, "ActiveState", "active")


def test_a_killed_worker_is_replaced_and_the_service_goes_on(system: System) -> None:
    options(system, TWO)
    start(system)
    main = main_pid(system)
    with many(system) as found:
        victim = found[0][1]
        send_signal(system, "KILL", victim)
        for connection, process in found:
            if process == victim:
                assert is_lost(connection)
            else:
                assert_echo(connection)
        wait_until(lambda: is_ready(system), "the next worker")
        assert victim not in workers(system)
        # The next worker after two kills in a row starts later. No new client is refused meanwhile.
        send_signal(system, "KILL", max(workers(system)))
        wait_until(told(system, "the next starts in 200ms"), "the line about the worker's end")
        with served(system) as others:
            for connection, _ in others:
                assert_echo(connection)
    assert (main_pid(system), system.show(SERVICE, "NRestarts"), system.show(SERVICE, "ActiveState")) == (
        main,
        "0",
        "active",
    )


def test_a_stuck_worker_is_replaced(system: System) -> None:
    options(system, TWO)
    start(system)
    main = main_pid(system)
    with many(system) as found:
        victim = found[0][1]
        send_signal(system, "STOP", victim)
        assert samples(system)['process_resident_memory_bytes{worker="0"}'] > 0
        wait_until(told(system, f"worker {victim} has not answered for 10s; killing it"), "the worker to be missed")
        wait_until(lambda: is_ready(system), "the next worker")
        assert victim not in workers(system)
        for connection, process in found:
            if process != victim:
                assert_echo(connection)
    assert (main_pid(system), system.show(SERVICE, "NRestarts")) == (main, "0")


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
def test_without_the_parent_the_service_is_restarted(signal: str, system: System) -> None:
    drop_in(system, "[Service]\nWatchdogSec=5\n")
    options(system, TWO)
    start(system)
    before = {main_pid(system), *workers(system)}
    send_signal(system, signal, main_pid(system))
    system.wait_for(SERVICE, "NRestarts", "1")
    system.wait_for(SERVICE, "ActiveState", "active")
    with many(system):
        after = {main_pid(system), *workers(system)}
        assert len(after) == 3
        assert not after & before
    assert not [pid for pid in before if system.path(f"/proc/{pid}").exists()]
    assert told(system, "Watchdog timeout")() is (signal == "STOP")


def test_stop_drains_all_workers(system: System) -> None:
    options(system, f"{TWO} --drain-timeout 50s")
    start(system)
    with many(system) as found:
        began = time.monotonic()
        system.run("systemctl", "stop", SERVICE)
        assert time.monotonic() - began < 40, "the drain waits for its clients, and not for its deadline"
        for connection, _ in found:
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
    assert (system.show(SERVICE, "Result"), system.show(SERVICE, "ExecMainStatus")) == ("success", "0")


def test_a_drain_may_take_longer_than_the_unit_says(system: System) -> None:
    assert_drains_longer_than_the_unit_says(system, TWO)


@pytest.mark.parametrize("kind", ["", PRIVATE])
def test_workers_share_the_sockets_of_systemd(kind: str, system: System) -> None:
    if kind:
        drop_in_file(system, kind)
        assert_exposure(system, SERVICE, 0.5)
    options(system, "--workers 2")
    system.run("systemctl", "start", "echod.socket")
    assert_serves(system, *PLACES)
    with visitors(system, PLACES * 2) as counts:
        for _ in range(2):
            wait_for_more(counts)
            system.run("systemctl", "restart", SERVICE)
        wait_for_more(counts)
    # Clients that were connected at the end were told to come again, in the words of the protocol.
    assert counts.keys() <= {"served", "close 1001", "HTTP 503"}, counts
    assert len(workers(system)) == 2


def test_the_admin_site_reports_all_workers(system: System) -> None:
    options(system, TWO)
    start(system)
    with many(system) as found:
        for connection, _ in found:
            assert_echo(connection)
        numbers = samples(system)
        assert numbers["echod_connections_open"] == MANY
        assert sum(value for name, value in numbers.items() if name.startswith("echod_messages_received_total")) == MANY
        assert (numbers["echod_workers_serving"], numbers["echod_workers_wanted"]) == (2, 2)
        listed = json.loads(get(system, "/connections")[1])["connections"]
        assert Counter(connection["process"] for connection in listed) == Counter(process for _, process in found)
        assert int(system.show(SERVICE, "StatusText").split()[1]) in range(MANY + 1)
        # The sandbox lets the parent read the figures of its workers' processes.
        for name in (
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ):
            assert {key for key in numbers if key.startswith(name)} == {
                name,
                f'{name}{{worker="0"}}',
                f'{name}{{worker="1"}}',
            }
        assert all(
            abs(time.time() - value) < 300
            for name, value in numbers.items()
            if name.startswith("process_start_time_seconds")
        )
        connections = sum(numbers[f'process_open_fds{{worker="{index}"}}'] for index in (0, 1))
        assert connections >= MANY

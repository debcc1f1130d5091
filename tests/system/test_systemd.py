"""The service under a real systemd: each unit of etc/systemd/ as an operator uses it, from start to end.

Knows systemctl and the journal. The client is one that nobody here wrote (websockets).
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.daemon import wait_until
from tests.frames import handshake
from tests.system.install import ROOT, lines
from tests.system.nspawn import System
from tests.tls import Certificate

SERVICE = "echod.service"
PRIVATE, TLS = "private-network.conf", "tls.conf"

UNITS = sorted(str(path.name) for path in (ROOT / "etc/systemd").glob("echod*"))

# systemd-analyze security's figure for the unit as it is, and with the drop-in for a network of its own.
MOST_EXPOSURE = {"": 1.2, PRIVATE: 0.5}

OPERATING = (ROOT / "docs/operating.md").read_text()

ERROR, WARNING, INFO = 3, 4, 6


class Place(NamedTuple):
    """Where to connect to."""

    address: Any
    family: socket.AddressFamily


IPV4 = Place(("127.0.0.1", 8080), socket.AF_INET)
IPV6 = Place(("::1", 8080), socket.AF_INET6)
UNIX = Place("/run/echod.sock", socket.AF_UNIX)
PLACES = (IPV4, IPV6, UNIX)


def client(system: System, place: Place = IPV4, **options: Any) -> ClientConnection:
    """Connect to the daemon."""
    connection: ClientConnection = connect("ws://localhost/", sock=system.connect(*place), compression=None, **options)
    return connection


def assert_echo(connection: ClientConnection, text: str = "It works ☕") -> None:
    connection.send(text)
    assert connection.recv(timeout=30) == text


def assert_serves(system: System, *places: Place) -> None:
    for place in places or (IPV4,):
        with client(system, place) as connection:
            assert_echo(connection)


def start(system: System, *units: str) -> None:
    system.run("systemctl", "start", *(units or (SERVICE,)))


def drop_in(system: System, text: str, unit: str = SERVICE) -> None:
    """Change a unit as `systemctl edit` does."""
    system.write(f"/etc/systemd/system/{unit}.d/override.conf", text)
    system.run("systemctl", "daemon-reload")


def drop_in_file(system: System, name: str) -> None:
    """Install one of the drop-ins of etc/systemd where its first lines say."""
    text = (ROOT / "etc/systemd" / name).read_text()
    path = f"/etc/systemd/system/{SERVICE}.d/{name}"
    assert path in text
    system.write(path, text)
    system.run("systemctl", "daemon-reload")


def options(system: System, text: str) -> None:
    """Give echod options as an operator does."""
    path = system.path("/etc/default/echod")
    path.write_text(re.sub(r"^ECHOD_OPTIONS=.*$", f'ECHOD_OPTIONS="{text}"', path.read_text(), flags=re.MULTILINE))


def main_pid(system: System, unit: str = SERVICE) -> int:
    """Return the service's process, as it is numbered in there."""
    return int(system.show(unit, "MainPID"))


def send_signal(system: System, name: str, pid: int) -> None:
    """Send a signal to a process in there; a small system has no kill but the shell's."""
    system.run("sh", "-c", f"kill -{name} {pid}")


def messages(system: System, unit: str = SERVICE) -> list[str]:
    return [str(entry["MESSAGE"]) for entry in system.journal(unit)]


# As installed.


def test_installed_and_started_as_the_readme_says(system: System) -> None:
    *_, reload, enable, check = lines()
    assert check.startswith("/opt/echod/bin/python -m echod check ")
    for line in (reload, enable, check):
        system.run(*line.split())
    assert system.show(SERVICE, "ActiveState") == "active"
    assert system.show(SERVICE, "UnitFileState") == "enabled"
    with client(system) as connection:
        assert_echo(connection)
        wait_until(lambda: system.show(SERVICE, "StatusText").startswith("connections: 1 of at most "), "the status to tell of it", 20)
    status = system.run("systemctl", "status", SERVICE).stdout
    assert "Status: " in status


def test_the_units_are_without_a_fault(system: System) -> None:
    names = [name.replace("@.", "@1.") for name in UNITS]
    assert len(names) == 4
    for name in ("", PRIVATE, TLS):
        if name:
            drop_in_file(system, name)
        done = system.run("systemd-analyze", "verify", *names)
        assert done.stdout + done.stderr == ""


def test_the_journal_has_each_line_with_its_priority(system: System) -> None:
    options(system, "--log-messages --max-message-size 1KiB")
    start(system)
    with client(system) as connection:
        assert_echo(connection, "<3>not an error\n<0>nor a panic")
        connection.send("x" * 2000)
        with pytest.raises(ConnectionClosed):
            connection.recv(timeout=30)
    wait_until(lambda: any("1009" in line for line in messages(system)), "the line about it")
    system.run("systemctl", "stop", SERVICE)
    own = [entry for entry in system.journal(SERVICE) if entry["SYSLOG_IDENTIFIER"] == "echod"]
    assert {int(entry["PRIORITY"]) for entry in own} == {INFO}
    assert not [entry for entry in own if re.match(r"<\d>", entry["MESSAGE"])]
    assert [entry["MESSAGE"] for entry in own if "not an error" in entry["MESSAGE"]] == [r"recv: <3>not an error\n<0>nor a panic"]
    assert [entry for entry in own if "max-message-size 1KiB" in entry["MESSAGE"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--drain-timeout never", "echod: --drain-timeout 'never' is not a duration"),
        ("--port tcp:8080:interface=192.0.2.1", "echod: can't listen on tcp:8080:interface=192.0.2.1: Cannot assign requested address"),
        ("--port systemd", "echod: --port 'systemd' has no sockets: systemd passed none to this process"),
    ],
)
def test_what_is_wrong_is_told_in_the_journal(text: str, told: str, system: System) -> None:
    drop_in(system, "[Service]\nRestart=no\n")
    options(system, text)
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert system.show(SERVICE, "ExecMainStatus") == "1"
    found = messages(system)
    assert [line for line in found if line.startswith(told)], found
    assert not [line for line in found if "Traceback" in line]


def test_an_error_has_the_priority_of_one(system: System) -> None:
    drop_in(system, "[Service]\nRestart=no\n")
    options(system, "--port tcp:8080:interface=192.0.2.1")
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    told = {entry["MESSAGE"]: int(entry["PRIORITY"]) for entry in system.journal(SERVICE)}
    assert told["can't listen on tcp:8080:interface=192.0.2.1: Cannot assign requested address"] == ERROR


# While it runs.


def test_reload_keeps_process_and_connections(system: System) -> None:
    start(system)
    before = main_pid(system)
    with client(system) as connection:
        system.run("systemctl", "reload", SERVICE)
        wait_until(lambda: "reloaded" in messages(system), "the reload")
        assert_echo(connection)
    assert main_pid(system) == before
    system.wait_for(SERVICE, "ActiveState", "active")
    assert_serves(system)


def test_killed_it_is_started_again(system: System) -> None:
    start(system)
    before = main_pid(system)
    send_signal(system, "KILL", before)
    system.wait_for(SERVICE, "NRestarts", "1")
    system.wait_for(SERVICE, "ActiveState", "active")
    assert main_pid(system) != before
    assert_serves(system)


def test_the_watchdog_ends_a_loop_that_is_stuck_and_starts_another(system: System) -> None:
    drop_in(system, "[Service]\nWatchdogSec=2\n")
    start(system)
    # Twice the time that it may be silent: while the loop turns, nothing happens.
    time.sleep(4)
    assert system.show(SERVICE, "NRestarts") == "0"
    send_signal(system, "STOP", main_pid(system))
    system.wait_for(SERVICE, "NRestarts", "1")
    system.wait_for(SERVICE, "ActiveState", "active")
    assert_serves(system)
    found = messages(system)
    assert [line for line in found if "Watchdog timeout" in line]
    assert [line for line in found if "Fatal Python error: Aborted" in line], "where it was stuck"


# The end.


def test_stop_drains(system: System) -> None:
    start(system)
    with ExitStack() as stack:
        connections = [stack.enter_context(client(system)) for _ in range(20)]
        for connection in connections:
            assert_echo(connection)
        began = time.monotonic()
        system.run("systemctl", "stop", SERVICE)
        assert time.monotonic() - began < 8, "it waits for clients that are there, not for the deadline"
        for connection in connections:
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
    assert (system.show(SERVICE, "Result"), system.show(SERVICE, "ExecMainStatus")) == ("success", "0")
    assert [line for line in messages(system) if "Deactivated successfully" in line]


def test_a_drain_may_take_longer_than_the_unit_says(system: System) -> None:
    drop_in(system, "[Service]\nTimeoutStopSec=2\n")
    options(system, "--drain-timeout 5s --close-timeout 1m")
    start(system)
    # A client that never answers the Close frame.
    with system.connect(*IPV4) as silent:
        silent.sendall(handshake())
        assert silent.recv(1000).startswith(b"HTTP/1.1 101 ")
        began = time.monotonic()
        system.run("systemctl", "stop", SERVICE)
        took = time.monotonic() - began
    assert took > 2
    assert system.show(SERVICE, "Result") == "success"


# Sockets.


def test_the_first_connection_starts_the_service(system: System) -> None:
    system.run("systemctl", "enable", "--now", "echod.socket")
    assert system.show(SERVICE, "ActiveState") == "inactive"
    assert_serves(system, IPV6, IPV4, UNIX)
    addresses = [line.removeprefix("listening on ") for line in messages(system) if line.startswith("listening on ")]
    assert addresses == ["ws://0.0.0.0:8080", "ws://[::]:8080", "unix:/run/echod.sock"]


def test_a_socket_that_nobody_serves_is_refused(system: System) -> None:
    drop_in(system, "[Service]\nRestart=no\n")
    options(system, "--port tcp:9000")
    start(system, "echod.socket")
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert "echod: socket 0 of those that systemd passed is served by no --port; add --port systemd" in messages(system)


@contextmanager
def visitors(system: System, places: Sequence[Place]) -> Iterator[Counter[str]]:
    """Have clients come and go all the time; what becomes of them is counted."""
    counts: Counter[str] = Counter()
    is_over = threading.Event()

    def visit(place: Place) -> None:
        while not is_over.is_set():
            counts[_visit(system, place)] += 1

    threads = [threading.Thread(target=visit, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def wait_for_more(counts: Counter[str]) -> None:
    """Wait until as many clients again were served as show that it goes on."""
    goal = counts["served"] + 100
    wait_until(lambda: counts["served"] > goal, "clients to be served", 60)


def _visit(system: System, place: Place) -> str:
    try:
        with client(system, place, open_timeout=30) as connection:
            assert_echo(connection)
    except InvalidStatus as error:
        return f"HTTP {error.response.status_code}"
    except ConnectionClosed as error:
        return f"close {error.rcvd.code if error.rcvd else None}"
    except (OSError, EOFError) as error:
        return repr(error)
    return "served"


def test_restart_refuses_nobody(system: System) -> None:
    start(system, "echod.socket")
    with visitors(system, PLACES * 2) as counts:
        for _ in range(3):
            wait_for_more(counts)
            system.run("systemctl", "restart", SERVICE)
        wait_for_more(counts)
    # Who was there when it ended was told to come again, in the words of the protocol.
    assert counts.keys() <= {"served", "close 1001", "HTTP 503"}, counts
    assert system.show("echod.socket", "ActiveState") == "active"


def test_instances_share_a_port(system: System) -> None:
    sockets = ["echod@1.socket", "echod@2.socket"]
    start(system, *sockets)
    services = [name.replace(".socket", ".service") for name in sockets]
    start(system, *services)
    pids = [main_pid(system, service) for service in services]
    assert len(set(pids)) == 2
    with ExitStack() as stack:
        for _ in range(40):
            assert_echo(stack.enter_context(client(system)))
        statuses = re.compile(r"connections: ([1-9]\d*) of")
        wait_until(lambda: all(statuses.match(system.show(service, "StatusText")) for service in services), "both to have some", 20)
        counts = [int(found[1]) for service in services if (found := statuses.match(system.show(service, "StatusText")))]
        assert sum(counts) == 40
    with visitors(system, [IPV4, IPV6] * 2) as visits:
        wait_for_more(visits)
        system.run("systemctl", "restart", services[0])
        wait_for_more(visits)
    assert visits.keys() <= {"served", "close 1001", "HTTP 503"}, visits
    assert main_pid(system, services[1]) == pids[1]


# The sandbox.


def assert_exposure(system: System, unit: str, most: float) -> None:
    """Have systemd judge the unit: over the threshold, which is in tenths, the command fails."""
    system.run("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={round(most * 10)}", unit)


@pytest.mark.parametrize("kind", MOST_EXPOSURE)
def test_the_sandbox_is_as_tight_as_promised_and_serves(kind: str, system: System) -> None:
    if kind:
        drop_in_file(system, kind)
    for unit in (SERVICE,) if kind else (SERVICE, "echod@1.service"):
        assert_exposure(system, unit, MOST_EXPOSURE[kind])
    start(system, "echod.socket" if kind else SERVICE)
    assert_serves(system, *(PLACES if kind else [IPV4]))
    pid = main_pid(system)
    facts = dict(line.split(":\t", 1) for line in system.path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert {facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {""}
    assert int(facts["Uid"].split()[0]) > 60_000, "a user of its own, made by systemd"
    networks = {system.run("readlink", f"/proc/{process}/ns/net").stdout for process in (1, pid)}
    assert len(networks) == (2 if kind else 1)
    assert not [entry for entry in system.journal(SERVICE) if int(entry["PRIORITY"]) <= WARNING and entry["SYSLOG_IDENTIFIER"] == "echod"]


@pytest.mark.parametrize("port", [8443, 443])
def test_the_sandbox_lets_tls_be_served(port: int, system: System, certificate: Certificate) -> None:
    system.run("groupadd", "--system", "ssl-cert")
    system.write("/etc/echod/certificates/localhost.pem", certificate.path.read_text())
    system.run("chgrp", "-R", "ssl-cert", "/etc/echod/certificates")
    system.run("chmod", "-R", "u=rwX,g=rX,o=", "/etc/echod/certificates")
    options(system, f"--port tls:/etc/echod/certificates:port={port}")
    drop_in(system, "[Service]\nSupplementaryGroups=ssl-cert\n")
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert [line for line in messages(system) if "Cannot allocate write+execute memory" in line], "why there is a drop-in"
    drop_in_file(system, TLS)
    if port < 1024:
        # As the document has it.
        (lines_,) = re.findall(r"^    (\[Service\]\n    PrivateUsers=no\n(?:    \S.*\n)*)", OPERATING, re.MULTILINE)
        drop_in(system, lines_.replace("    ", ""))
    else:
        assert_exposure(system, SERVICE, 1.2)
    start(system)
    context = ssl.create_default_context(cafile=str(certificate.path))
    sock = system.connect(("127.0.0.1", port))
    with connect("wss://localhost/", sock=sock, ssl=context) as connection:
        assert_echo(connection)

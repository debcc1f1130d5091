"""The service under a real systemd: each unit of etc/systemd/ as an operator uses it, from start to end.

Knows systemctl and the journal. The client is websockets, which others wrote.
"""

from __future__ import annotations

import re
import time
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.daemon import wait_until
from tests.system.install import ROOT, lines
from tests.system.nspawn import System
from tests.system.service import (
    CERTIFICATE,
    ERROR,
    INFO,
    IPV4,
    IPV6,
    PLACES,
    PRIVATE,
    SERVICE,
    TLS,
    UNIX,
    WARNING,
    assert_drains_longer_than_the_unit_says,
    assert_echo,
    assert_exposure,
    assert_serves,
    client,
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

UNITS = sorted(str(path.name) for path in (ROOT / "etc/systemd").glob("echod*"))

# The figure of systemd-analyze security for the unit itself, and with the drop-in for a network of its own.
MOST_EXPOSURE = {"": 1.2, PRIVATE: 0.5}

OPERATING = (ROOT / "docs/operating.md").read_text()


# As installed.


def test_installed_and_started_as_the_readme_says(system: System) -> None:
    *_, reload, enable, check = lines()
    assert check.startswith("/opt/echod/bin/echod check ")
    for line in (reload, enable, check):
        system.run(*line.split())
    assert system.show(SERVICE, "ActiveState") == "active"
    assert system.show(SERVICE, "UnitFileState") == "enabled"
    with client(system) as connection:
        assert_echo(connection)
        wait_until(
            lambda: system.show(SERVICE, "StatusText").startswith("connections: 1 of at most "),
            "the status to count the connection",
        )
    status = system.run("systemctl", "status", SERVICE).stdout
    assert "Status: " in status


def test_systemd_finds_no_fault_in_the_units(system: System) -> None:
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
    wait_until(lambda: any("1009" in line for line in messages(system)), "the line about the failed connection")
    system.run("systemctl", "stop", SERVICE)
    own = [entry for entry in system.journal(SERVICE) if entry["SYSLOG_IDENTIFIER"] == "echod"]
    assert {int(entry["PRIORITY"]) for entry in own} == {INFO}
    assert not [entry for entry in own if re.match(r"<\d>", entry["MESSAGE"])]
    assert [entry["MESSAGE"] for entry in own if "not an error" in entry["MESSAGE"]] == [
        r"#1: recv text: <3>not an error\n<0>nor a panic"
    ]
    assert [entry for entry in own if "max-message-size 1KiB" in entry["MESSAGE"]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("--drain-timeout never", "echod: --drain-timeout 'never' is not a duration"),
        (
            "--port tcp:8080:interface=192.0.2.1",
            "echod: can't listen on tcp:8080:interface=192.0.2.1: Cannot assign requested address",
        ),
        ("--port systemd", "echod: --port 'systemd' has no sockets: systemd passed none to this process"),
    ],
)
def test_a_wrong_option_is_reported_in_the_journal(text: str, told: str, system: System) -> None:
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


def test_a_failed_reload_is_reported_in_log_and_status(system: System, certificate: Certificate) -> None:
    serve_tls(system, certificate, 8443)
    drop_in_file(system, TLS)
    start(system)
    system.path(CERTIFICATE).write_text("broken\n")
    assert system.run("systemctl", "reload", SERVICE, is_checked=False).returncode == 1
    wait_until(lambda: any(line.startswith("reload failed: ") for line in messages(system)), "the reload")
    assert "reloaded" not in messages(system)
    wait_until(lambda: "; reload failed: " in system.show(SERVICE, "StatusText"), "the status")


def test_a_reload_fails_if_a_restart_would_fail(system: System) -> None:
    start(system)
    before = main_pid(system)
    options(system, "--max-connections none")
    assert system.run("systemctl", "reload", SERVICE, is_checked=False).returncode == 1
    told = "echod: --max-connections 'none' is not a whole number of at least 1"
    wait_until(lambda: any(line.startswith(told) for line in messages(system)), "the line")
    assert main_pid(system) == before
    assert_serves(system)
    # systemd never passes sockets to a validation, so it can't know that the service has none here.
    options(system, "--port systemd --max-connections 10")
    system.run("systemctl", "reload", SERVICE)


def test_a_killed_service_is_restarted(system: System) -> None:
    start(system)
    before = main_pid(system)
    send_signal(system, "KILL", before)
    system.wait_for(SERVICE, "NRestarts", "1")
    system.wait_for(SERVICE, "ActiveState", "active")
    assert main_pid(system) != before
    assert_serves(system)


def test_the_watchdog_replaces_a_stuck_process(system: System) -> None:
    drop_in(system, "[Service]\nWatchdogSec=5\n")
    start(system)
    # Twice the watchdog's time limit: nothing happens while the loop turns.
    time.sleep(10)
    assert system.show(SERVICE, "NRestarts") == "0"
    send_signal(system, "STOP", main_pid(system))
    system.wait_for(SERVICE, "NRestarts", "1")
    system.wait_for(SERVICE, "ActiveState", "active")
    assert_serves(system)
    found = messages(system)
    assert [line for line in found if "Watchdog timeout" in line]
    assert [line for line in found if "Fatal Python error: Aborted" in line], "the log shows where the loop was stuck"


# The end.


def test_stop_drains(system: System) -> None:
    options(system, "--drain-timeout 50s")
    start(system)
    with ExitStack() as stack:
        connections = [stack.enter_context(client(system)) for _ in range(20)]
        for connection in connections:
            assert_echo(connection)
        began = time.monotonic()
        system.run("systemctl", "stop", SERVICE)
        assert time.monotonic() - began < 40, "the drain waits for its clients, and not for its deadline"
        for connection in connections:
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(timeout=30)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
    assert (system.show(SERVICE, "Result"), system.show(SERVICE, "ExecMainStatus")) == ("success", "0")
    assert [line for line in messages(system) if "Deactivated successfully" in line]


def test_a_drain_may_take_longer_than_the_unit_says(system: System) -> None:
    assert_drains_longer_than_the_unit_says(system)


# Sockets.


def test_the_first_connection_starts_the_service(system: System) -> None:
    system.run("systemctl", "enable", "--now", "echod.socket")
    assert system.show(SERVICE, "ActiveState") == "inactive"
    assert_serves(system, IPV6, IPV4, UNIX)
    addresses = [line.removeprefix("listening on ") for line in messages(system) if line.startswith("listening on ")]
    assert addresses == ["ws://0.0.0.0:8080", "ws://[::]:8080", "unix:/run/echod.sock"]


def test_a_socket_that_no_port_serves_is_refused(system: System) -> None:
    drop_in(system, "[Service]\nRestart=no\n")
    options(system, "--port tcp:9000")
    start(system, "echod.socket")
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert "echod: no --port serves socket 0 from systemd; add --port systemd" in messages(system)


def test_a_restart_refuses_no_client(system: System) -> None:
    start(system, "echod.socket")
    with visitors(system, PLACES * 2) as counts:
        for _ in range(3):
            wait_for_more(counts)
            system.run("systemctl", "restart", SERVICE)
        wait_for_more(counts)
    # Clients that were connected at the end were told to come again, in the words of the protocol.
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
        wait_until(
            lambda: all(statuses.match(system.show(service, "StatusText")) for service in services),
            "both to have connections",
        )
        counts = [
            int(found[1]) for service in services if (found := statuses.match(system.show(service, "StatusText")))
        ]
        assert sum(counts) == 40
    with visitors(system, [IPV4, IPV6] * 2) as visits:
        wait_for_more(visits)
        system.run("systemctl", "restart", services[0])
        wait_for_more(visits)
    assert visits.keys() <= {"served", "close 1001", "HTTP 503"}, visits
    assert main_pid(system, services[1]) == pids[1]


# The sandbox.


@pytest.mark.parametrize("kind", MOST_EXPOSURE)
def test_the_sandbox_is_as_tight_as_promised_and_serves(kind: str, system: System) -> None:
    if kind:
        drop_in_file(system, kind)
    for unit in (SERVICE,) if kind else (SERVICE, "echod@1.service"):
        assert_exposure(system, unit, MOST_EXPOSURE[kind])
    start(system, "echod.socket" if kind else SERVICE)
    assert_serves(system, *(PLACES if kind else [IPV4]))
    pid = main_pid(system)
    facts = dict(
        line.split(":\t", 1) for line in system.path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert facts["NoNewPrivs"] == "1"
    assert facts["Seccomp"] == "2"
    assert {facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {""}
    assert int(facts["Uid"].split()[0]) > 60_000, "the service has a user of its own, made by systemd"
    networks = {system.run("readlink", f"/proc/{process}/ns/net").stdout for process in (1, pid)}
    assert len(networks) == (2 if kind else 1)
    assert not [
        entry
        for entry in system.journal(SERVICE)
        if int(entry["PRIORITY"]) <= WARNING and entry["SYSLOG_IDENTIFIER"] == "echod"
    ]


@pytest.mark.parametrize("port", [8443, 443])
def test_the_sandbox_lets_tls_be_served(port: int, system: System, certificate: Certificate) -> None:
    serve_tls(system, certificate, port)
    # Restart=no: the expected failure must not lead to another start meanwhile.
    drop_in(system, "[Service]\nSupplementaryGroups=ssl-cert\nRestart=no\n")
    assert system.run("systemctl", "start", SERVICE, is_checked=False).returncode == 1
    assert [line for line in messages(system) if "Cannot allocate write+execute memory" in line], (
        "the reason for the drop-in"
    )
    drop_in_file(system, TLS)
    if port < 1024:
        # The lines as docs/operating.md has them.
        (lines_,) = re.findall(r"^    (\[Service\]\n    PrivateUsers=no\n(?:    \S.*\n)*)", OPERATING, re.MULTILINE)
        drop_in(system, lines_.replace("    ", ""))
    else:
        assert_exposure(system, SERVICE, 1.2)
    start(system)
    context = certificate.client()
    sock = system.connect(("127.0.0.1", port))
    with connect("wss://localhost/", sock=sock, ssl=context) as connection:
        assert_echo(connection)

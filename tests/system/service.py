"""The service as an operator handles it: units, options, signals, the journal; and clients that come and go meanwhile.

Knows systemctl, and where things are installed. Must never know what a test is about.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.daemon import wait_until
from tests.frames import handshake
from tests.system.install import ROOT
from tests.system.nspawn import System
from tests.tls import Certificate

SERVICE = "echod.service"
PRIVATE, TLS = "private-network.conf", "tls.conf"

CERTIFICATE = "/etc/echod/certificates/localhost.pem"

ERROR, WARNING, INFO = 3, 4, 6


class Place(NamedTuple):
    """An address to connect to, and how."""

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
    """Install a drop-in of etc/systemd in the place that its first lines name."""
    text = (ROOT / "etc/systemd" / name).read_text()
    path = f"/etc/systemd/system/{SERVICE}.d/{name}"
    assert path in text
    system.write(path, text)
    system.run("systemctl", "daemon-reload")


def options(system: System, text: str) -> None:
    """Set echod's options as an operator does."""
    path = system.path("/etc/default/echod")
    path.write_text(re.sub(r"^ECHOD_OPTIONS=.*$", f'ECHOD_OPTIONS="{text}"', path.read_text(), flags=re.MULTILINE))


def main_pid(system: System, unit: str = SERVICE) -> int:
    """Return the service's main process, as the system numbers it."""
    return int(system.show(unit, "MainPID"))


def send_signal(system: System, name: str, pid: int) -> None:
    """Send a signal to a process of the system. A small system has only the shell's kill."""
    system.run("sh", "-c", f"kill -{name} {pid}")


def messages(system: System, unit: str = SERVICE) -> list[str]:
    return [str(entry["MESSAGE"]) for entry in system.journal(unit)]


def assert_exposure(system: System, unit: str, most: float) -> None:
    """Let systemd judge the unit's exposure. The command fails above the threshold, which is in tenths."""
    system.run("systemd-analyze", "security", "--no-pager", "--offline=yes", f"--threshold={round(most * 10)}", unit)


def assert_drains_longer_than_the_unit_says(system: System, more: str = "") -> None:
    """Start the service, and stop it while a client is connected that never answers the Close frame."""
    drop_in(system, "[Service]\nTimeoutStopSec=2\n")
    options(system, f"{more} --drain-timeout 5s --close-timeout 1m")
    start(system)
    with system.connect(*IPV4) as silent:
        silent.sendall(handshake())
        assert silent.recv(1000).startswith(b"HTTP/1.1 101 ")
        began = time.monotonic()
        system.run("systemctl", "stop", SERVICE)
        took = time.monotonic() - began
    assert took > 2
    assert system.show(SERVICE, "Result") == "success"


def serve_tls(system: System, certificate: Certificate, port: int, more: str = "") -> None:
    """Install a certificate that the service's group may read, and serve it. The drop-in is not installed here."""
    system.run("groupadd", "--system", "ssl-cert")
    system.write(CERTIFICATE, certificate.path.read_text())
    system.run("chgrp", "-R", "ssl-cert", "/etc/echod/certificates")
    system.run("chmod", "-R", "u=rwX,g=rX,o=", "/etc/echod/certificates")
    options(system, f"--port tls:/etc/echod/certificates:port={port} {more}")


@contextmanager
def visitors(system: System, places: Sequence[Place]) -> Iterator[Counter[str]]:
    """Make clients come and go all the time, and yield the count of each outcome."""
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
    """Wait until enough further clients were served to show that the service goes on."""
    goal = counts["served"] + 100
    wait_until(lambda: counts["served"] > goal, "clients to be served")


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

"""The Debian package, installed with dpkg: it serves at once, keeps the administrator's changes, and leaves nothing
behind.

Knows dpkg, systemctl, and how to call `make deb`. The promises of the units are tested in test_systemd.py.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from echod import __version__
from tests.daemon import run
from tests.system import nspawn
from tests.system.nspawn import System
from tests.tools import needed

ROOT = Path(__file__).parents[2]

BUILD_DEADLINE = 1200
"""Time limit in seconds for the wheels of all that echod needs, their bytecode, and debhelper."""

SERVICE = "echod.service"
DEB = "/root/echod.deb"


@pytest.fixture(scope="module")
def deb() -> Path:
    """The package."""
    needed("dh", "debhelper gcc python3-dev python3-venv")
    done = run("make", "deb", cwd=ROOT, deadline=BUILD_DEADLINE)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (path,) = (ROOT / "dist").glob(f"echod_{__version__}_*.deb")
    return path


@pytest.fixture(scope="module")
def installed(bare: Path, deb: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the root folder of a Debian with the package installed by dpkg alone, which downloads nothing."""
    with nspawn.copy(bare, tmp_path_factory.mktemp("deb")) as root:
        nspawn.run(root, f"dpkg --install /mnt/{deb.name}", {deb.parent: "/mnt"})
        yield root


@pytest.fixture
def system(installed: Path, deb: Path) -> Iterator[System]:
    """Return that Debian, just started, with the package at hand for another installation."""
    with System(installed) as system:
        system.path(DEB).write_bytes(deb.read_bytes())
        yield system


def assert_serves(system: System, port: int = 8080) -> None:
    with connect(
        "ws://localhost/", sock=system.connect(("127.0.0.1", port), socket.AF_INET), compression=None
    ) as connection:
        connection.send("It works ☕")
        assert connection.recv(timeout=30) == "It works ☕"


def test_lintian_finds_nothing(deb: Path) -> None:
    needed("lintian", "lintian")
    done = subprocess.run(
        ["lintian", "--fail-on=error,warning", "--allow-root", str(deb)],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_it_serves_from_the_start_and_changes_nothing_of_itself(system: System) -> None:
    assert system.show(SERVICE, "UnitFileState") == "enabled"
    system.wait_for(SERVICE, "ActiveState", "active")
    assert_serves(system)
    assert system.show("echod.socket", "UnitFileState") == "disabled"
    messages = [str(entry["MESSAGE"]) for entry in system.journal(SERVICE)]
    assert [line for line in messages if line.startswith("express lane: pump and codec")], messages
    assert not [line for line in messages if "Traceback" in line or "dropin.cache" in line], messages
    assert (
        system.run(
            "systemd-analyze", "verify", "echod.service", "echod.socket", "echod@1.service", "echod@1.socket"
        ).stdout
        == ""
    )
    system.run("systemctl", "stop", SERVICE)
    assert system.run("dpkg", "--verify", "echod").stdout == ""


def test_the_command(system: System) -> None:
    assert system.run("echod", "--version").stdout == f"echod {__version__}\n"
    done = system.run("echod", "serve", "--drain-timeout", "never", is_checked=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"echod: --drain-timeout 'never' is not a duration.*\n", done.stderr), done.stderr
    system.wait_for(SERVICE, "ActiveState", "active")
    done = system.run("echod", "check", "ws://127.0.0.1:8080")
    assert done.stderr == ""
    for place in (
        "bash-completion/completions/echod",
        "zsh/vendor-completions/_echod",
        "fish/vendor_completions.d/echod.fish",
    ):
        assert "authority-file" in system.path(f"/usr/share/{place}").read_text(), place
    # The options' file refers to a command, which must run.
    (help_,) = re.findall(r"`(.*)` lists them", system.path("/etc/default/echod").read_text())
    assert "--max-connections" in system.run(*help_.split()).stdout


def test_an_upgrade_restarts_it_with_the_options_that_were_given(system: System) -> None:
    path = system.path("/etc/default/echod")
    changed = re.sub(r"^ECHOD_OPTIONS=.*$", 'ECHOD_OPTIONS="--port tcp:9000"', path.read_text(), flags=re.MULTILINE)
    path.write_text(changed)
    system.run("systemctl", "restart", SERVICE)
    before = system.show(SERVICE, "MainPID")
    system.run("dpkg", "--install", "--force-confold", DEB)
    system.wait_for(SERVICE, "ActiveState", "active")
    assert system.show(SERVICE, "MainPID") != before
    assert path.read_text() == changed
    assert_serves(system, 9000)


def test_a_purge_leaves_nothing(system: System) -> None:
    system.run("systemctl", "stop", SERVICE)
    system.run("systemctl", "enable", "--now", "echod.socket")
    assert_serves(system)
    # An instance for another port, whose enabling only systemd knows.
    system.path("/etc/systemd/system/echod@1.socket.d").mkdir()
    system.path("/etc/systemd/system/echod@1.socket.d/port.conf").write_text(
        "[Socket]\nListenStream=\nListenStream=127.0.0.1:9000\n"
    )
    system.run("systemctl", "enable", "--now", "echod@1.socket")
    assert_serves(system, 9000)
    # Files of the operator stay.
    shutil.rmtree(system.path("/etc/systemd/system/echod@1.socket.d"))
    system.run("dpkg", "--purge", "echod")
    assert system.run("systemctl", "is-active", SERVICE, "echod.socket", is_checked=False).stdout.split() == [
        "inactive",
        "inactive",
    ]
    system.path(DEB).unlink()
    found = system.run("find", "/", "-xdev", "-name", "*echod*", "-not", "-path", "/proc/*").stdout.splitlines()
    # dpkg itself writes in these folders.
    assert [path for path in found if not path.startswith(("/var/log/", "/var/lib/dpkg/", "/var/cache/"))] == []

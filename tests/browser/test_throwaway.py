"""`throwaway:` endpoints as Chromium sees them, with their authority in Chromium's own list."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, sync_playwright

from echod.net.tls.throwaway import Fault
from tests.browser.conftest import ARGUMENTS, PATIENCE
from tests.daemon import Daemon, run
from tests.tools import needed

FAULTS = {
    None: "TLS 1.3",
    Fault.EXPIRED: "net::ERR_CERT_DATE_INVALID",
    Fault.NOT_YET: "net::ERR_CERT_DATE_INVALID",
    Fault.WRONG_NAME: "net::ERR_CERT_COMMON_NAME_INVALID",
    Fault.SELF_SIGNED: "net::ERR_CERT_AUTHORITY_INVALID",
    Fault.UNKNOWN_AUTHORITY: "net::ERR_CERT_AUTHORITY_INVALID",
    Fault.TLS_1_2: "TLS 1.2",
    Fault.WEAK_KEY: "net::ERR_CERT_WEAK_KEY",
}
"""What Chromium says: the version of TLS, or why it does not show the page."""

ECHO = """
(url) => new Promise((resolve) => {
  const socket = new WebSocket(url);
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => resolve(event.data);
  socket.onclose = (event) => resolve(event.code);
})
"""
"""Resolves to the echo, or to the close code."""


def endpoint(fault: Fault | None) -> str:
    return "throwaway:0:interface=127.0.0.1" + (f":fault={fault}" if fault else "")


@pytest.fixture(scope="module")
def throwaways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Path]]:
    """Run a daemon with an endpoint for each fault; yield it, and a home whose user trusts its authority."""
    certutil, home = needed("certutil", "libnss3-tools"), tmp_path_factory.mktemp("home")
    with Daemon("--authority-file", str(home / "authority.pem"), ports=[*map(endpoint, FAULTS)]) as daemon:
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        for words in (
            ("-N", "--empty-password"),
            ("-A", "-n", "echod", "-t", "C,,", "-i", str(home / "authority.pem")),
        ):
            done = run(certutil, "-d", f"sql:{database}", *words)
            assert done.returncode == 0, done.stderr
        yield daemon, home


@pytest.fixture(scope="module")
def trusting(throwaways: tuple[Daemon, Path]) -> Iterator[Browser]:
    path = needed("chromium")
    with sync_playwright() as playwright:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        browser = playwright.chromium.launch(
            executable_path=path, args=ARGUMENTS, env={**environment, "HOME": str(throwaways[1])}
        )
        yield browser
        browser.close()


def test_the_document_says_what_chromium_says() -> None:
    text = (Path(__file__).parents[2] / "docs" / "tls.md").read_text()
    for fault in Fault:
        row = re.search(rf"^\| `{re.escape(fault)}` \|.*\| ([^|]+) \|$", text, re.MULTILINE)
        assert row is not None
        assert f"`{str(FAULTS[fault]).removeprefix('net::')}`" in row[1]


def look_at(window: BrowserContext, url: str) -> str:
    """Return the version of TLS with which a page is shown, or why it isn't."""
    try:
        answer = window.new_page().goto(url)
    except Error as error:
        return error.message
    assert answer is not None
    details = answer.security_details()
    assert details is not None
    return details["protocol"] or ""


@pytest.mark.parametrize("fault", FAULTS)
def test_what_chromium_says(throwaways: tuple[Daemon, Path], trusting: Browser, fault: Fault | None) -> None:
    url = throwaways[0].urls[list(FAULTS).index(fault)].replace("127.0.0.1", "localhost")
    with trusting.new_context() as window:
        window.set_default_timeout(PATIENCE)
        page = window.new_page()
        assert FAULTS[fault] in look_at(window, url.replace("wss", "https"))
        assert page.evaluate(ECHO, url) == ("hello" if FAULTS[fault].startswith("TLS") else 1006)

"""A real, headless Chromium with the console in it. A page that reports any error fails its test.

Screenshots go to reports/browser/. Knows Chromium and Playwright. Must never know what the page shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.daemon import Daemon
from tests.tools import needed

SCREENSHOTS = Path(__file__).parents[2] / "reports" / "browser"

# Chromium needs the first option to run as root. The others keep it from contacting the servers of its vendor.
ARGUMENTS = [
    *["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
    *["--disable-background-networking", "--disable-component-update", "--disable-sync"],
]

# Chromium itself logs this about a handshake that failed, and no page can prevent it.
NO_CONNECTION = "WebSocket connection to "


# Milliseconds. The two cores may be busy with other runs.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Run Chromium for the tests of one file. While Playwright runs, no other test of this thread can run an asyncio
    loop."""
    path = needed("chromium")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


@pytest.fixture
def errors() -> list[str]:
    """Return the complaints of the page and the browser. A test removes a complaint that it expects."""
    return []


def open_page(browser: Browser, daemon: Daemon, errors: list[str], path: str = "/", **context: Any) -> Page:
    """Open the console in a new window."""
    page = browser.new_context(
        **{"viewport": {"width": 1280, "height": 900}, "ignore_https_errors": True, **context}
    ).new_page()
    page.set_default_timeout(PATIENCE)

    def note(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(NO_CONNECTION):
            errors.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if not request.is_navigation_request() else None)
    page.goto(daemon.url.replace("ws", "http", 1) + path)
    return page


@pytest.fixture
def page(browser: Browser, daemon: Daemon, errors: list[str]) -> Iterator[Page]:
    page = open_page(browser, daemon, errors)
    yield page
    page.context.close()
    assert not errors

"""A real Chromium without a screen, and the console in it; a page that reports any error fails its test.

Screenshots go to reports/browser/. Knows Chromium and Playwright. Must never know what is on the page.
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

# What runs as root needs the first; the others keep it from looking for servers of its maker's.
ARGUMENTS = [
    *["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
    *["--disable-background-networking", "--disable-component-update", "--disable-sync"],
]

# Chromium's own word for a handshake that failed, which no page can keep it from saying.
NO_CONNECTION = "WebSocket connection to "


# Milliseconds; two cores may be busy with other runs.
PATIENCE = 60_000
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium for one file's tests: as long as Playwright is there, no other test of this thread can run an asyncio
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
    """What the page and the browser complain of; a test that expects a complaint takes it out."""
    return []


def open_page(browser: Browser, daemon: Daemon, errors: list[str], path: str = "/", **context: Any) -> Page:
    """Open the console in a window of its own."""
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

"""The console in Chromium and in Firefox over HTTP/2, and its WebSockets: `/info` tells over which HTTP they came."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import open_page
from tests.browser.firefox import firefox
from tests.daemon import Daemon

ASK = """
([url, text]) => new Promise((resolve, reject) => {
  const socket = new WebSocket(url), came = [];
  socket.onerror = () => reject(new Error("no connection"));
  socket.onmessage = (event) => {
    came.push(event.data);
    if (came.length === 1) socket.send(text); else socket.close(4000, "bye");
  };
  socket.onclose = (event) => resolve({ came, code: event.code, reason: event.reason });
})
"""


@pytest.fixture(scope="module")
def secure() -> Iterator[Daemon]:
    """Return a daemon that browsers can reach over HTTP/2."""
    with Daemon(ports=["throwaway:0"]) as daemon:
        yield daemon


def check(found: dict[str, Any]) -> None:
    """Check what came of `ASK`."""
    info, echo = found["came"]
    assert echo == "hello" * 1000
    assert (found["code"], found["reason"]) == (4000, "bye")
    told = json.loads(info)
    assert told["http"]["version"] == "2"
    assert told["extensions"] == ["permessage-deflate"]


def test_chromium(browser: Browser, secure: Daemon, errors: list[str]) -> None:
    page = open_page(browser, secure, errors)
    expect(page.locator("#came-over")).to_contain_text("HTTP/2")
    check(page.evaluate(ASK, [f"{secure.url}/info", "hello" * 1000]))
    assert errors == []


def test_firefox(secure: Daemon, tmp_path: Path) -> None:
    url = f"wss://localhost:{secure.port}"
    with firefox(tmp_path) as page:
        page.open(url.replace("wss", "https", 1))
        assert "HTTP/2" in page.evaluate("document.querySelector('#came-over').textContent")
        check(page.evaluate(f"({ASK.strip()})({json.dumps([f'{url}/info', 'hello' * 1000])})"))

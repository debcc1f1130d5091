"""The console in Chromium and in Firefox over HTTP/2, and its WebSockets: `/info` tells over which HTTP they came."""

from __future__ import annotations

import json
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


MODES = pytest.mark.parametrize(("mode", "version"), [("on", "2"), ("no-websocket", "1.1")])
"""A browser goes back to HTTP/1.1 if the server takes no WebSockets over HTTP/2."""


def check(found: dict[str, Any], version: str) -> None:
    """Check what came of `ASK`."""
    info, echo = found["came"]
    assert echo == "hello" * 1000
    assert (found["code"], found["reason"]) == (4000, "bye")
    told = json.loads(info)
    assert told["http"]["version"] == version
    assert told["extensions"] == ["permessage-deflate"]


@MODES
def test_chromium(browser: Browser, errors: list[str], mode: str, version: str) -> None:
    with Daemon("--http2", mode, ports=["throwaway:0"]) as daemon:
        page = open_page(browser, daemon, errors)
        expect(page.locator("#came-over")).to_contain_text("HTTP/2")
        check(page.evaluate(ASK, [f"{daemon.url}/info", "hello" * 1000]), version)
        page.context.close()
    assert errors == []


@MODES
def test_firefox(tmp_path: Path, mode: str, version: str) -> None:
    with Daemon("--http2", mode, ports=["throwaway:0"]) as daemon, firefox(tmp_path) as page:
        url = f"wss://localhost:{daemon.port}"
        page.open(url.replace("wss", "https", 1))
        assert "HTTP/2" in page.evaluate("document.querySelector('#came-over').textContent")
        check(page.evaluate(f"({ASK.strip()})({json.dumps([f'{url}/info', 'hello' * 1000])})"), version)

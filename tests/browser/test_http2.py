"""The console in Chromium and in Firefox over HTTP/2, and its WebSockets: `/info` tells over which HTTP they came."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
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


MEET = """
(urls) => Promise.all(urls.map((url) => new Promise((resolve) => {
  const socket = new WebSocket(url), came = [];
  let opened = false;
  socket.onopen = () => { opened = true; socket.send("tea"); };
  socket.onmessage = (event) => { came.push(event.data); if (event.data === "tea") socket.close(); };
  socket.onclose = (event) => resolve([opened, came, event.code, event.wasClean]);
})))
"""

Seen = tuple[bool, list[str], int, bool]
"""What a page sees that sends `tea`, and closes once `tea` comes back: whether the connection was open, the messages,
the code, and whether the end was clean."""

FAULTS: dict[str, Seen] = {
    "accept=wrong": (False, [], 1006, False),
    "head=folded": (False, [], 1006, False),
    "status=503": (False, [], 1006, False),
    "subprotocol=never": (False, [], 1006, False),
    "bad=masked": (True, [], 1006, False),
    "bad=rsv2": (True, [], 1006, False),
    "bad=utf8": (True, [], 1006, False),
    "bad=deflate-garbage": (True, [], 1006, False),
    "bad=masked&after=1": (True, ["tea"], 1006, False),
    "cut=3": (True, [], 1006, False),
    "abort&after=1": (True, ["tea"], 1006, False),
    "close=1006&after=1": (True, ["tea"], 1006, False),
    "close=1001&after=1": (True, ["tea"], 1001, True),
    "goaway&after=1": (True, ["tea"], 1005, True),
    "slice=1": (True, ["tea"], 1005, True),
    "fragment=1": (True, ["tea"], 1005, True),
    "greeting=hello": (True, ["hello", "tea"], 1005, True),
    "pong-every=100ms&delay=300ms": (True, ["tea"], 1005, True),
}
"""What Chromium sees of each fault."""

MISSED = {"subprotocol=never": ["tea"], "bad=masked": ["masked", "tea"], "bad=masked&after=1": ["tea"]}
"""The messages that come to Firefox with the faults that it misses (docs/clients.md)."""


LAST = "goaway&after=1"
"""The fault that comes last: a browser opens no stream on the connection after it."""


def meet_faults(daemon: Daemon, url: str, evaluate: Callable[[list[str]], list[Any]]) -> dict[str, Seen]:
    """Return what a page of `url` sees of each fault, over HTTP/2. `evaluate` runs `MEET`."""
    queries = [query for query in FAULTS if query != LAST]
    found = evaluate([f"{url}/?{query}" for query in queries]) + evaluate([f"{url}/?{LAST}"])
    openings = re.findall(r"opening from .*", daemon.output())
    assert [line for line in openings if "CONNECT /?" not in line and "GET / HTTP/2" not in line] == []
    return dict(zip([*queries, LAST], map(tuple, found), strict=True))


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


def test_faults_in_chromium(browser: Browser, errors: list[str]) -> None:
    with Daemon("--log-frames", ports=["throwaway:0"]) as daemon:
        page = open_page(browser, daemon, errors)
        assert meet_faults(daemon, daemon.url, lambda urls: list(page.evaluate(MEET, urls))) == FAULTS
        page.context.close()


def test_faults_in_firefox(tmp_path: Path) -> None:
    """It meets one at a time: a wrong frame that comes with the answer may end all streams (docs/http2.md)."""
    with Daemon("--log-frames", ports=["throwaway:0"]) as daemon, firefox(tmp_path) as page:
        url = f"wss://localhost:{daemon.port}"
        page.open(url.replace("wss", "https", 1))
        meet = f"({MEET.strip()})"
        seen = meet_faults(daemon, url, lambda urls: [page.evaluate(f"{meet}({json.dumps([one])})")[0] for one in urls])
    assert {query: seen[query][1] for query in MISSED} == MISSED
    # If a wrong frame comes with the answer, Firefox may tell the page that the connection was never open.
    assert {query: one[1:] for query, one in seen.items() if query not in MISSED} == {
        query: one[1:] for query, one in FAULTS.items() if query not in MISSED
    }


@MODES
def test_firefox(tmp_path: Path, mode: str, version: str) -> None:
    with Daemon("--http2", mode, ports=["throwaway:0"]) as daemon, firefox(tmp_path) as page:
        url = f"wss://localhost:{daemon.port}"
        page.open(url.replace("wss", "https", 1))
        assert "HTTP/2" in page.evaluate("document.querySelector('#came-over').textContent")
        check(page.evaluate(f"({ASK.strip()})({json.dumps([f'{url}/info', 'hello' * 1000])})"), version)

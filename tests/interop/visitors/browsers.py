"""Chromium and Firefox: `python -m tests.interop.visitors.browsers chromium|firefox PROGRAM`.

The browser is remote-controlled, Chromium through its DevTools protocol and Firefox through WebDriver BiDi, and a page
of echod itself makes each visit (meet.mjs). A browser opens one WebSocket of a host at a time, so the visits are made
one after the other. Must never know what is expected of a client.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

Call = Callable[[str, Mapping[str, Any]], Awaitable[Any]]

MEET = Path(__file__).with_name("meet.mjs").read_text().replace("export function", "function")

OPTIONS = {
    "chromium": (
        # Chromium needs the first to run as root. The next ones keep it from contacting the servers of its vendor.
        *("--no-sandbox", "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
        *("--disable-component-update", "--disable-sync", "--ignore-certificate-errors", "--remote-debugging-port=0"),
        "--user-data-dir={folder}",
    ),
    "firefox": ("--headless", "--no-remote", "--remote-debugging-port", "0", "--profile", "{folder}"),
}

# What Firefox would contact of its own accord.
PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.getAddons.cache.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}


@contextmanager
def running(kind: str, program: str) -> Iterator[str]:
    """Run the browser, and yield the URL of its remote control."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        lines = (f'user_pref("{name}", {json.dumps(value)});\n' for name, value in PREFERENCES.items())
        (Path(folder) / "user.js").write_text("".join(lines))
        command = [program, *(option.format(folder=folder) for option in OPTIONS[kind])]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        try:
            said = (re.search(r"(?:DevTools|WebDriver BiDi) listening on (ws://\S+)", line) for line in process.stderr)
            yield next(found[1] for found in said if found)
        finally:
            process.terminate()
            process.communicate()


def caller(control: ClientConnection, **everywhere: str) -> Call:
    """Return what calls a method of the browser, and returns its result."""
    numbers = itertools.count(1)

    async def call(method: str, params: Mapping[str, Any]) -> Any:
        number = next(numbers)
        await control.send(json.dumps({"id": number, "method": method, "params": params, **everywhere}))
        while (got := json.loads(await control.recv())).get("id") != number:
            pass
        if "result" not in got:
            raise RuntimeError(f"{method}: {got}")
        return got["result"]

    return call


async def chromium(url: str, page: str) -> tuple[str, Callable[[str], Awaitable[str]]]:
    """Open the page. Return the version, and what evaluates a promise of a string there."""
    control = await connect(url, max_size=None, proxy=None)
    call = caller(control)
    version = (await call("Browser.getVersion", {}))["product"].rpartition("/")[2]
    target = (await call("Target.createTarget", {"url": page}))["targetId"]
    session = (await call("Target.attachToTarget", {"targetId": target, "flatten": True}))["sessionId"]
    call = caller(control, sessionId=session)
    await call("Runtime.evaluate", {"expression": LOADED, "awaitPromise": True})

    async def evaluate(expression: str) -> str:
        got = await call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        text: str = got["result"]["value"]
        return text

    return version, evaluate


async def firefox(url: str, page: str) -> tuple[str, Callable[[str], Awaitable[str]]]:
    """Open the page. Return the version, and what evaluates a promise of a string there."""
    call = caller(await connect(f"{url}/session", max_size=None, proxy=None))
    wanted = {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}}
    version = (await call("session.new", wanted))["capabilities"]["browserVersion"]
    context = (await call("browsingContext.create", {"type": "tab"}))["context"]
    await call("browsingContext.navigate", {"context": context, "url": page, "wait": "complete"})

    async def evaluate(expression: str) -> str:
        where = {"target": {"context": context}, "awaitPromise": True}
        text: str = (await call("script.evaluate", {"expression": expression, **where}))["result"]["value"]
        return text

    return version, evaluate


LOADED = 'new Promise((done) => document.readyState === "complete" ? done() : addEventListener("load", () => done()))'


async def serve(kind: str, program: str) -> None:
    """Make all visits."""
    asked = [line.strip() for line in sys.stdin]
    parts = urlsplit(json.loads(asked[0])["url"])
    page = f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}/"
    with running(kind, program) as url:
        version, evaluate = await {"chromium": chromium, "firefox": firefox}[kind](url, page)
        print(f"{kind} {version}", flush=True)
        for line in asked:
            visit = f"meet({line}, (asked) => new WebSocket(asked.url)).then(JSON.stringify)"
            print(await evaluate(f"(() => {{ {MEET} return {visit} }})()"), flush=True)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

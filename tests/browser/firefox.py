"""A real, headless Firefox, and as much of WebDriver BiDi as the tests need to open a page and run a script in it.

Playwright has only a Firefox of its own, which is not the one that people use. Firefox serves BiDi itself
(https://w3c.github.io/webdriver-bidi/), so no driver is needed.

Knows Firefox and BiDi. Must never know what a page shows.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.daemon import wait_until
from tests.tools import needed

PATIENCE = 120
"""Seconds for a start, and for the answer to a command."""

PREFERENCES = {
    "app.normandy.enabled": False,
    "browser.safebrowsing.malware.enabled": False,
    "browser.safebrowsing.phishing.enabled": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
    "toolkit.telemetry.server": "",
}
"""These keep it from contacting the servers of its vendor."""

_ADDRESS = re.compile(r"BiDi listening on (ws://\S+)\n")


class Firefox:
    """A session with one window."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        capabilities = {"alwaysMatch": {"acceptInsecureCerts": True}}
        self.version: str = self._call("session.new", capabilities=capabilities)["capabilities"]["browserVersion"]
        self._window = self._call("browsingContext.getTree")["contexts"][0]["context"]

    def _call(self, method: str, **params: Any) -> Any:
        self._count += 1
        self._connection.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            told = json.loads(self._connection.recv(PATIENCE))
            if told.get("id") == self._count:
                assert told["type"] == "success", told
                return told["result"]

    def open(self, url: str) -> None:
        """Open a page, and wait until it is loaded."""
        self._call("browsingContext.navigate", context=self._window, url=url, wait="complete")

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, or of its promise, as JSON has it."""
        whole = f"Promise.resolve({expression}).then(JSON.stringify)"
        found = self._call("script.evaluate", expression=whole, target={"context": self._window}, awaitPromise=True)
        assert found["type"] == "success", found
        return json.loads(found["result"]["value"])


@contextmanager
def firefox(profile: Path) -> Iterator[Firefox]:
    """Run Firefox with a profile in an empty folder."""
    path = needed("firefox-esr")
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items())
    (profile / "user.js").write_text("".join(lines))
    log = profile / "log"
    command = [path, "--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0"]
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            wait_until(lambda: _ADDRESS.search(log.read_text()), "Firefox to listen", PATIENCE)
            url = _ADDRESS.findall(log.read_text())[0]
            with connect(f"{url}/session", max_size=None, compression=None, open_timeout=PATIENCE) as connection:
                yield Firefox(connection)
        finally:
            process.terminate()

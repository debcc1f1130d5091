"""How many connections a daemon serves as guests, of which Python knows nothing (docs/architecture.md, "The door").

`/connections` lists first the connections that have begun in Python, or gone on there. A connection to `/info` is
always one of them. If it is the newest one, all that are listed behind it are with the door.

Knows the admin site, and one client. Must never import echod.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
from collections.abc import Callable
from http.client import HTTPResponse
from typing import Any

from tests.client import upgrade
from tests.reliability.daemon import Daemon

SITE = ("--admin", "unix:admin")
"""The options of a daemon whose guests are counted. Its admin site is in its folder, so that a network namespace does
not matter."""

PAGE = 1000
"""The most connections that the admin site lists on a page."""


def count_guests(daemon: Daemon, dial: Callable[[], socket.socket] | None = None) -> int:
    """Return how many connections are with the door of a daemon with the options `SITE`.

    Visitors count, too. No other client may be connected to `/info`. `dial` connects to the daemon, if that takes more
    than its address.
    """
    with dial() if dial is not None else socket.create_connection(daemon.address, 60) as newest:
        upgrade(newest, path="/info")
        for page in itertools.count(1):
            total, paths = _listed(daemon, page)
            if "/info" in paths:
                return total - (page - 1) * PAGE - paths.index("/info") - 1
            assert paths, "the newest connection is not listed"
    raise AssertionError


def count_others(daemon: Daemon, clients: int, dial: Callable[[], socket.socket] | None = None) -> int:
    """Return how many of so many connected clients are no guests. Without native code there are none, and it is 0."""
    return 0 if os.environ.get("ECHOD_NATIVE") == "0" else clients - count_guests(daemon, dial)


def _listed(daemon: Daemon, page: int) -> tuple[int, list[str]]:
    """Return how many connections there are, and the paths of those on a page."""
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(60)
        made.connect(str(daemon.folder / "admin"))
        target = f"/connections?per-page={PAGE}&page={page}"
        made.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = HTTPResponse(made)
        answer.begin()
        assert answer.status == 200, answer.status
        found: dict[str, Any] = json.loads(answer.read())
    return found["total"], [one["path"] for one in found["connections"]]

"""What real clients make of each fault: `python -m tests.interop.survey` writes docs/clients.md.

Each client connects, sends three texts, waits a second for more, and closes. What is written down is what came to the
server, from its own log, so that it does not depend on how a library calls things. It is evidence and no verdict.

Knows the table of faults and the clients. Must never judge.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from itertools import count
from json import loads
from pathlib import Path
from typing import NamedTuple

from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import ROWS, Moment
from echod.testing.trace import Connection, Trace, TraceError
from tests.daemon import Daemon
from tests.interop.clients import FOLDER, Target
from tests.interop.watchers import WATCHERS, Watch

PLACE = FOLDER.parent.parent / "docs" / "clients.md"

WAIT = 1.0
"""Seconds without a message after which a client closes."""

AT_ONCE = 6
"""Clients that run at a time."""

HEAD = """\
# What clients do

Each client met each fault of [faults.md](faults.md) once: it connected, sent three texts, waited for {wait:g} s, and
closed. The tables say what came to the server after that, from echod's own log. They are evidence, and no verdict: a
library may leave a choice to its user, and a client whose limit is longer than the wait seems to go on.

- *goes on*: it sent its texts, and closed with 1000 or without a code
- *fails with 1002*: its Close frame has this code
- *ends TCP*: it sent no Close frame, after it had sent texts; *does not open*: it sent nothing at all
- *stays*: it was still there at the end

Measured on {date} with {versions}, by `make clients`.
"""


class Case(NamedTuple):
    """A fault, and what a conforming client does."""

    query: str
    client: str
    has_deflate: bool = False


def cases() -> Iterator[tuple[str, list[Case]]]:
    """Yield the heading and the cases of each table."""
    for moment in Moment:
        rows = [Case(row.example, row.client, row.name == "bomb") for row in ROWS if row.moment is moment]
        yield moment, [case for case in rows if "bad=" not in case.query and "head=" not in case.query]
        if moment is Moment.OPENING:
            yield "Malformed heads", [Case(f"head={name}", head.client) for name, head in HEADS.items()]
        if moment is Moment.FRAMES:
            yield "Wrong frames", [Case(f"bad={name}", bad.client, bad.needs_deflate) for name, bad in BAD.items()]


def describe(connections: list[Connection]) -> str:
    """Say what a client did. Several connections are those of a client that repeats a handshake."""
    if not connections:
        return "nothing came"
    words = list(dict.fromkeys(_describe(connection) for connection in connections))
    return ", then ".join(words)


def _describe(connection: Connection) -> str:
    closes = [frame.payload.split(" ")[0] for frame in connection.received if frame.type == "close"]
    has_sent = any(frame.type in ("text", "binary") for frame in connection.received)
    if closes:
        return "goes on" if closes[0] in ("1000", "1001", "") else f"fails with {closes[0]}"
    if connection.end is None:
        return "stays"
    return "ends TCP" if has_sent else "does not open"


def survey(daemon: Daemon, name: str, case: Case, number: int) -> str:
    """Let a client meet a fault, and say what came to the server."""
    mark = f"survey={number}"
    target = Target(f"{daemon.url}/?{case.query}&{mark}", compression=case.has_deflate)
    with suppress(Exception):  # whatever a library raises: the log tells
        WATCHERS[name](Watch(target, ["one", "two", "three"], WAIT, 5.0))
    trace = Trace(daemon.folder / "daemon.log")

    def own(found: list[Connection]) -> list[Connection]:
        return [one for one in found if one.request.split(" ")[1].endswith(f"&{mark}")]

    with suppress(TraceError):  # the connection is still there
        trace(lambda found: own(found) and all(one.end is not None for one in own(found)), 2.0)
    return describe(own(trace()))


def make() -> str:
    """Run all clients, and return the text of the page."""
    versions = {"websockets": version("websockets"), "aiohttp": version("aiohttp"), "ws": _version_of_ws()}
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    parts = [HEAD.format(wait=WAIT, date=date, versions=told)]
    numbers = count(1)
    options = ("--log-frames", "--log-frames-rate", "100000", "--log-format", "json")
    with Daemon(*options, has_log_file=True) as daemon, ThreadPoolExecutor(AT_ONCE) as pool:
        for title, group in cases():
            jobs = [[pool.submit(survey, daemon, name, case, next(numbers)) for name in WATCHERS] for case in group]
            rows = [
                [f"`?{case.query}`", case.client, *(job.result() for job in line)]
                for case, line in zip(group, jobs, strict=True)
            ]
            parts.append(f"## {title}\n\n" + _table(["fault", "a conforming client", *WATCHERS], rows))
    return "\n".join(parts)


def _version_of_ws() -> str:
    place: Path = FOLDER / "node_modules" / "ws" / "package.json"
    return str(loads(place.read_text())["version"])


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    PLACE.write_text(make())

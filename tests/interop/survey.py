"""What real clients make of each fault: `make clients` writes docs/clients.md.

Each client visits each fault once (see visitors/). What is written down comes from two witnesses: the client's library,
and the server's own log of frames. It is evidence and no verdict.

Knows the table of faults and the visitors. Must never judge.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import ROWS, Moment
from echod.testing.trace import Connection, Trace
from tests.daemon import DEFAULT_PORTS, Daemon
from tests.interop.visitors.programs import all_of_them
from tests.interop.visitors.visit import SETTLED, TEXTS, Visit
from tests.tls import Certificate

ROOT = Path(__file__).parents[2]

PLACE = ROOT / "docs" / "clients.md"

ENVIRONMENT = ROOT / ".venv-clients"
"""Where the clients in Python are installed (requirements.txt among the visitors)."""

QUIET = 10.0
"""Seconds without an answer or a message after which a client gives up. Far less would do, but on a busy machine some
clients would seem to wait."""

TRUST = ("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "DENO_CERT")
"""The environment variables that name a certificate to trust: OpenSSL's, which Go reads, too, and those of Node and
Deno."""

UNDICI = "undici"

OVER_HTTP2 = "undici over HTTP/2"
"""The column of undici's visits over TLS."""

AT_ONCE = 3
"""Clients at a time."""

DEADLINE = 600.0
"""Seconds for all visits of a client."""

OPTIONS = (
    *("--log-frames", "--log-frames-rate", "100000", "--log-format", "json"),
    *("--fault-cap", "max-stall=1m"),
)
"""What the daemon is started with, so that its log has every frame."""

HEAD = """\
# What clients do

Each client met each fault of [faults.md](faults.md) once: it connected, sent the texts `one`, `two` and `three`,
took what came until nothing more had come for {settled:g} s, or for {quiet:g} s if `three` had not come, and
closed. Each row has what a conforming client does, and then what each client did: its library said which messages
came, and the server's log said how it ended. This is evidence, and no verdict: a library may leave a choice to its
user, some deliver frames or pieces instead of messages, and a client whose time limit is longer than this wait
seems to go on. Clients differ in what they offer: pycurl, websocket-client, Deno and Qt offer no permessage-deflate,
so they are refused where a fault needs it.

aiohttp to websockets are packages for Python, ws and undici for Node. Node, Bun and Deno are what these runtimes have
built in. Chromium and Firefox are a page of echod's. gorilla and nhooyr are packages for Go, Qt is its QWebSocket, and
libsoup is the GNOME library. All come over HTTP/1.1. The last column is undici's over HTTP/2, where echod refuses with
HTTP 400 what HTTP/2 does not have, and where undici may end its stream before its Close frame has left.

- *goes on*: the client did what it does without a fault: three messages came back, and it closed
- *1002*: the client's Close frame had this code
- *an error*: the library reported an error, and the client closed as it does without one
- *ends*: the connection ended without a Close frame of the client
- *no connection*: the library never said that the connection is open, and the client sent no Close frame
- *waits*: likewise, and the client gave up after {quiet:g} s; or, with a list, it gave up waiting for more messages,
  and the server saw no Close frame
- a list in brackets: the messages that the library delivered, if they were not `one two three`

Measured on {date}, by `make clients`, with {versions}.
"""


class Case(NamedTuple):
    """A fault, and what a conforming client does."""

    query: str
    client: str
    needs_deflate: bool = False


def cases() -> Iterator[tuple[str, list[Case]]]:
    """Yield the heading and the cases of each table."""
    for moment in Moment:
        # Without a seed other messages are lost each time.
        rows = [
            Case(row.example, row.client, row.name == "bomb")
            for row in ROWS
            if row.moment is moment and row.example != "drop=0.5" and row.version != "2"
        ]
        # Some parameters share an example, which is that of the first.
        rows = list({case.query: case for case in reversed(rows)}.values())[::-1]
        yield moment, [case for case in rows if not case.query.startswith(("bad=", "head="))]
        if moment is Moment.OPENING:
            yield "Malformed heads", [Case(f"head={name}", head.client) for name, head in HEADS.items()]
        if moment is Moment.FRAMES:
            yield "Wrong frames", [Case(f"bad={name}", bad.client, bad.needs_deflate) for name, bad in BAD.items()]


QUERIES: dict[str, Case] = {case.query: case for _, group in cases() for case in group}
"""All cases."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a visit."""

    seen: Visit
    """What the library saw."""
    code: int | None
    """The code of the Close frame that the client sent; 1005 without a code; None: it sent no Close frame."""
    is_http2: bool = False
    """Whether the client came over HTTP/2."""

    @property
    def fails(self) -> bool:
        """Whether the client did not take the connection for a good one."""
        if not self.seen.opened:
            return not self.seen.waited
        return not self.seen.waited and (bool(self.seen.error) or self.code not in (1000, 1005))

    def __str__(self) -> str:
        if not self.seen.opened and self.code is None:
            return "waits" if self.seen.waited else "no connection"
        shown = " ".join(self.seen.messages[:5]) + (" …" if len(self.seen.messages) > 5 else "")
        got = "" if tuple(self.seen.messages) == TEXTS else f" [{shown}]"
        if self.code is None:
            return f"{'waits' if self.seen.waited else 'ends'}{got}"
        if self.code in (1000, 1005):
            return f"{'an error' if self.fails else 'goes on'}{got}"
        return f"{self.code}{got}"


def survey(
    clients: Mapping[str, Sequence[str]], asked: Sequence[Case], certificate: Path | None = None
) -> tuple[dict[str, str], dict[tuple[str, str], Outcome]]:
    """Let each client visit each fault. With a certificate for `localhost`, and its key, that is over TLS. Return the
    clients' versions, and what came of each visit, by the client and the query."""
    ports = [f"ssl:0:interface=127.0.0.1:privateKey={certificate}"] if certificate else DEFAULT_PORTS
    trust = {name: str(certificate) for name in TRUST} if certificate else {}
    # Not in a log file, which twistd would rotate.
    with Daemon(*OPTIONS, ports=ports) as daemon, ThreadPoolExecutor(AT_ONCE) as pool:
        address = daemon.url.replace("//127.0.0.1:", "//localhost:") if certificate else daemon.url
        pairs = [(name, case.query) for name in clients for case in asked]
        numbers = {pair: number for number, pair in enumerate(pairs)}

        def visits(name: str) -> Iterable[dict[str, object]]:
            for case in asked:
                number = numbers[name, case.query]
                # A key of `fail` is of one client, and a redirect keeps the number.
                query = case.query.replace("key=docs", f"key={name}").replace("=/", f"=/%3Fvisit={number}")
                url = f"{address}/?{query}&visit={number}"
                yield {"number": number, "url": url, "deflate": case.needs_deflate, "quiet": QUIET}

        told = list(pool.map(lambda name: run(clients[name], visits(name), trust), clients))
        connections = {
            int(mark[1]): connection
            for connection in Trace(daemon.folder / "output")()
            if (mark := re.search(r"[?&]visit=([0-9]+) ", connection.request))
        }
    versions = {name: version for name, (version, _) in zip(clients, told, strict=True)}
    seen = {visit.number: visit for _, visits in told for visit in visits}
    outcomes = {
        key: Outcome(
            seen[number], _code(connection), connection is not None and connection.request.startswith("CONNECT ")
        )
        for key, number in numbers.items()
        for connection in [connections.get(number)]
    }
    return versions, outcomes


def run(
    command: Sequence[str], visits: Iterable[Mapping[str, object]], environment: Mapping[str, str] | None = None
) -> tuple[str, list[Visit]]:
    """Let a client make visits. Return its version, and what it saw."""
    done = subprocess.run(
        command,
        input="".join(f"{json.dumps(visit)}\n" for visit in visits),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # libraries warn there of what they meet
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        timeout=DEADLINE,
        check=True,
    )
    version, *lines = done.stdout.splitlines()
    return version, [Visit(**json.loads(line)) for line in lines]


def _code(connection: Connection | None) -> int | None:
    """Return the code of the Close frame that a client sent."""
    closes = [frame.payload for frame in connection.received if frame.type == "close"] if connection else []
    if not closes:
        return None
    code = closes[0].split(" ")[0]
    return int(code) if code.isdecimal() else 1005


def make() -> str:
    """Run all clients, and return the text of the page."""
    clients, lacking = all_of_them(ENVIRONMENT)
    for line in lacking:
        print(line, file=sys.stderr)
    versions, outcomes = survey(clients, tuple(QUERIES.values()))
    outcomes |= over_http2(clients)
    columns = dict.fromkeys(name for name, _ in outcomes)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    words = ", ".join(versions.values())
    parts = [HEAD.format(quiet=QUIET, settled=SETTLED, date=date, versions=words)]
    for title, group in cases():
        rows = [
            [f"`?{case.query}`", case.client, *(_cell(str(outcomes[name, case.query])) for name in columns)]
            for case in group
        ]
        parts.append(f"## {title}\n\n" + _table(["fault", "a conforming client", *columns], rows))
    return "\n".join(parts)


def over_http2(clients: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], Outcome]:
    """Let the client that does so of itself visit each fault over HTTP/2, if it is here. Over TLS it is HTTP/2."""
    if UNDICI not in clients:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        certificate = Certificate(Path(folder) / "localhost.pem")
        _, outcomes = survey({UNDICI: clients[UNDICI]}, tuple(QUERIES.values()), certificate.path)
    return {(OVER_HTTP2, query): outcome for (_, query), outcome in outcomes.items()}


def _cell(text: str) -> str:
    return "".join(character if character.isprintable() and character != "|" else "�" for character in text)


def _table(titles: list[str], rows: list[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    if not ENVIRONMENT.exists():
        sys.exit("run this with `make clients`, which installs the clients")
    PLACE.write_text(make())

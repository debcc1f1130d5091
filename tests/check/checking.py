"""A check in this process, against a server that does what a script says."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor

from echod.check import probe
from echod.check.report import CheckOutcome, Plan, Report, Step
from echod.http.ws_url import parse
from tests.odd_server import DEADLINE, OddServer, Peer

Script = Callable[[Peer], object]

TIMEOUT = 3.0
"""Time limit in seconds for tests in which something comes too late. All that comes before must be over by then, even
on a busy machine."""


async def check(
    url: str, tell: Callable[[str], None] = lambda _: None, getaddrinfo: Any = socket.getaddrinfo, **plan: Any
) -> Report:
    """Run a check in this process, with 2 messages. The first is text."""
    values = {"count": 1, "size": 100, "timeout": 10.0, **plan}
    began = time.monotonic()
    report = await probe.run(reactor, Plan(parse(url), **values), tell, getaddrinfo)
    # An odd server waits longer than this. Otherwise the server would end the check.
    assert time.monotonic() - began < values["timeout"] + DEADLINE / 2, "it outlived its deadline"
    return report


async def against(script: Script, certificate: Path | None = None, **plan: Any) -> Report:
    with OddServer(script, certificate) as server:
        return await check(server.url, **plan)


async def fails(
    script: Script, step: Step, what: str, *seen: str, outcome: CheckOutcome = CheckOutcome.NO_CONNECTION, **plan: Any
) -> Report:
    """Check, and assert the step that failed, and texts that are in the report."""
    report = await against(script, **plan)
    assert (report.outcome, report.step) == (outcome, step), report
    assert what in report.what
    for text in seen:
        assert any(text in line for line in report.seen), report.seen
    return report


def good(peer: Peer) -> None:
    peer.upgrade()
    peer.echo(2)
    peer.close()

"""`python -m echod check URL`: the command line of a check, and its report for a person, a monitor or a program.

Knows options, exit statuses and the three forms of output. What is checked, and how, is `probe`'s.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import statistics
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, NoReturn, TextIO

from twisted.internet.task import react

from echod.check import probe
from echod.check.probe import CheckOutcome, Plan, Report
from echod.core.printable import escape
from echod.core.quantities import format_duration, format_size, parse_count, parse_positive_duration, parse_size
from echod.http import ws_url
from echod.http.request import TOKEN
from echod.upstream import clock

PROGRESS_INTERVAL = 0.1
"""Seconds between two lines of progress: no faster than a person reads."""

MAX_COUNT = 1_000_000
"""Messages of each type: the time of each is kept."""

_TOKEN = re.compile(TOKEN.decode())

# What the opening handshake itself says, and what would give a GET a body.
_RESERVED = re.compile("upgrade|connection|sec-websocket-.*|content-length|transfer-encoding", re.IGNORECASE)

_STATUSES = """
exit status:
  0   every echo was right
  1   an echo was wrong, or did not come
  2   no WebSocket connection: DNS, TCP, TLS, HTTP or the upgrade failed
  3   not over within --timeout
  64  the command line is wrong
  74  the report can't be written
"""


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line and exits with 64 (EX_USAGE of sysexits.h): argparse's own 2 stands for no
    connection."""

    def error(self, message: str) -> NoReturn:
        self.exit(os.EX_USAGE, f"{self.prog}: {escape(message)}\n")


def _type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Make of a parser that raises `ValueError` one whose words argparse passes on."""

    def checked(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} {error}") from error

    return checked


def _parse_count(text: str) -> int:
    count = parse_count(text)
    if count > MAX_COUNT:
        raise ValueError(f"is more than {MAX_COUNT}")
    return count


def _parse_size(text: str) -> int:
    size = parse_size(text)
    if size > probe.MAX_SIZE:
        raise ValueError(f"is more than {format_size(probe.MAX_SIZE)}")
    return size


def _parse_subprotocol(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError("is no name of a subprotocol (RFC 6455 section 4.1)")
    return text


def _parse_field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.fullmatch(name):
        raise ValueError("is no header, such as 'Name: value'")
    if not value.isprintable() and not value.replace("\t", "").isprintable():
        raise ValueError("has a control character in it")
    if _RESERVED.fullmatch(name):
        raise ValueError("belongs to the opening handshake itself")
    return name, value


def _make_parser() -> _Parser:
    default = Plan(ws_url.parse("ws://localhost"))
    parser = _Parser(
        prog="echod check",
        description="Check a WebSocket echo server: text and binary messages have to come back octet by octet.",
        epilog=_STATUSES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("url", metavar="URL", type=_type(ws_url.parse), help="ws://… or wss://…")
    add(
        "--count",
        metavar="N",
        type=_type(_parse_count),
        default=default.count,
        help=f"messages of each type [{default.count}]",
    )
    size = format_size(default.size)
    add(
        "--size",
        metavar="SIZE",
        type=_type(_parse_size),
        default=default.size,
        help=f"octets of each: 64KiB, 1MiB [{size}]",
    )
    add(
        *("--timeout",),
        metavar="DURATION",
        type=_type(parse_positive_duration),
        default=default.timeout,
        help=f"for all of it: 500ms, 5s [{format_duration(default.timeout)}]",
    )
    add(
        "--subprotocol",
        metavar="NAME",
        type=_type(_parse_subprotocol),
        action="append",
        help="offer it; one has to be chosen",
    )
    add(
        "--header",
        metavar="'NAME: VALUE'",
        type=_type(_parse_field),
        action="append",
        help="send it with the opening handshake",
    )
    add("--compress", action="store_true", help="offer permessage-deflate")
    add("--insecure", action="store_true", help="take any certificate")
    add("--json", action="store_true", help="write the report as one JSON object")
    return parser


def parse(arguments: Sequence[str]) -> tuple[Plan, bool]:
    """Return the plan, and whether the report is to be JSON; raises `SystemExit` for what is wrong."""
    values = _make_parser().parse_args(arguments)
    plan = Plan(
        target=values.url,
        count=values.count,
        size=values.size,
        timeout=values.timeout,
        is_insecure=values.insecure,
        subprotocols=tuple(values.subprotocol or ()),
        fields=tuple(values.header or ()),
        offers_compression=values.compress,
    )
    return plan, values.json


# The report.


def statistics_of(round_trips: Sequence[float]) -> dict[str, float]:
    """Return minimum, median, 99th percentile (nearest rank) and maximum; empty where there is nothing."""
    if not round_trips:
        return {}
    ordered = sorted(round_trips)
    return {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p99": ordered[math.ceil(0.99 * len(ordered)) - 1],
        "max": ordered[-1],
    }


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _summary(report: Report) -> str:
    if report.outcome is not CheckOutcome.OK:
        return f"CRITICAL - {report.step}: {report.what}"
    count = len(report.round_trips)
    median = _milliseconds(statistics_of(report.round_trips)["median"])
    return f"OK - {count} messages of {format_size(report.plan.size)} echoed, median {median}"


def as_text(report: Report) -> str:
    """Return the lines for a person. The first is for a monitor, too: Nagios cuts it at the bar, behind which are the
    figures."""
    figures = statistics_of(report.round_trips)
    performance = " ".join(f"{name}={seconds:.6f}s" for name, seconds in figures.items())
    # Nothing else in the line may look like the bar.
    lines = [_summary(report).replace("|", "\\x7c") + (f" | {performance}" if performance else "")]
    lines += report.seen
    lines += [f"note: {note}" for note in report.notes]
    facts = {
        "URL": escape(report.plan.target.url),
        "address": report.peer or ", ".join(report.addresses),
        "TLS": report.tls,
        "subprotocol": report.subprotocol,
        "extensions": ", ".join(report.extensions),
        "steps": ", ".join(f"{step} {_milliseconds(seconds)}" for step, seconds in report.times.items()),
        "round trip": ", ".join(f"{name} {_milliseconds(seconds)}" for name, seconds in figures.items()),
    }
    lines += [f"{name}: {fact}" for name, fact in facts.items() if fact]
    return "\n".join(lines) + "\n"


def as_json(report: Report) -> str:
    """Return the report as one JSON object on one line, of ASCII; times are in seconds."""
    is_ok = report.outcome is CheckOutcome.OK
    record = {
        "ok": is_ok,
        "status": int(report.outcome),
        "summary": _summary(report),
        "step": None if is_ok else report.step,
        "what": report.what or None,
        "seen": list(report.seen),
        "notes": report.notes,
        "url": report.plan.target.url,
        "addresses": report.addresses,
        "peer": report.peer or None,
        "tls": report.tls or None,
        "subprotocol": report.subprotocol or None,
        "extensions": report.extensions,
        "size": report.plan.size,
        "messages": 2 * report.plan.count,
        "echoed": len(report.round_trips),
        "steps": report.times,
        "round_trip": statistics_of(report.round_trips) or None,
    }
    return json.dumps(record) + "\n"


class Progress:
    """One live line on a terminal; nothing at all elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._next = 0.0

    def tell(self, text: str) -> None:
        """Show `text` instead of what was shown, unless that was only just now."""
        if self._is_terminal and monotonic() >= self._next:
            self._next = monotonic() + PROGRESS_INTERVAL
            width = shutil.get_terminal_size().columns - 1
            self._write(f"\r\x1b[K{text[:width]}")

    def end(self) -> None:
        """Leave an empty line."""
        if self._is_terminal:
            self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def main(arguments: Sequence[str], out: TextIO, error_out: TextIO, react: Callable[..., NoReturn] = react) -> int:
    """Run a check and return the exit status; raises `SystemExit` for a command line that is wrong."""
    plan, is_json = parse(arguments)
    progress = Progress(error_out)
    reports: list[Report] = []

    async def check(reactor: Any) -> None:
        clock.make_monotonic(reactor)
        stopped: list[None] = []
        # A signal stops the reactor, which then drops its connections: not the server's doing.
        reactor.addSystemEventTrigger("before", "shutdown", stopped.append, None)
        report = await probe.run(reactor, plan, progress.tell)
        if not stopped:
            reports.append(report)

    try:
        react(check)
    except SystemExit as end:
        if not reports:
            # Of a failure of ours react has written the traceback; without one a signal has stopped the reactor.
            return os.EX_SOFTWARE if end.code else INTERRUPTED
    finally:
        progress.end()
    out.write(as_json(reports[0]) if is_json else as_text(reports[0]))
    return int(reports[0].outcome)


INTERRUPTED = 130
"""What a shell reports of a command that SIGINT ended."""

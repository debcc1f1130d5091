"""`python -m echod check URL`: the command line of a check, and its exit status.

Knows options and exit statuses. Loads Twisted and Autobahn (some 0.2 s) only for a command line that is right.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from echod.check.output import Progress, as_json, as_text
from echod.check.report import MAX_SIZE, Plan, Report
from echod.core.printable import escape
from echod.core.quantities import format_duration, format_size, parse_count, parse_positive_duration, parse_size
from echod.http import ws_url
from echod.http.request import TOKEN

MAX_COUNT = 1_000_000
"""Most messages of each type: the time of every message is kept."""

INTERRUPTED = 130
"""The exit status after SIGINT, as a shell reports it."""

_TOKEN = re.compile(TOKEN.decode())

# Header fields that the opening handshake itself has, and those that would give a GET a body.
_RESERVED = re.compile("upgrade|connection|sec-websocket-.*|content-length|transfer-encoding", re.IGNORECASE)

_STATUSES = """
exit status:
  0   every echo was right
  1   an echo was wrong, or did not come
  2   no WebSocket connection: DNS, TCP, TLS, HTTP or the upgrade failed
  3   the check did not finish within --timeout
  64  the command line is wrong
  74  the report can't be written
"""


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line and exits with 64 (EX_USAGE of sysexits.h). argparse's own status 2 would stand for
    no connection."""

    def error(self, message: str) -> NoReturn:
        self.exit(os.EX_USAGE, f"{self.prog}: {escape(message)}\n")


def _type(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Turn a parser that raises `ValueError` into one whose message argparse passes on."""

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
    if size > MAX_SIZE:
        raise ValueError(f"is more than {format_size(MAX_SIZE)}")
    return size


def _parse_subprotocol(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not the name of a subprotocol (RFC 6455 section 4.1)")
    return text


def _parse_field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    value = value.strip(" \t")
    if not colon or not _TOKEN.fullmatch(name):
        raise ValueError("is not a header such as 'Name: value'")
    if not value.isprintable() and not value.replace("\t", "").isprintable():
        raise ValueError("has a control character in it")
    if _RESERVED.fullmatch(name):
        raise ValueError("belongs to the opening handshake itself")
    return name, value


def make_parser() -> Parser:
    """Return the parser of the command line."""
    default = Plan(ws_url.parse("ws://localhost"))
    parser = Parser(
        prog="echod check",
        description="Check a WebSocket echo server: text and binary messages must come back byte for byte.",
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
        help=f"number of messages of each type [{default.count}]",
    )
    size = format_size(default.size)
    add(
        "--size",
        metavar="SIZE",
        type=_type(_parse_size),
        default=default.size,
        help=f"bytes of each message, such as 64KiB or 1MiB [{size}]",
    )
    add(
        *("--timeout",),
        metavar="DURATION",
        type=_type(parse_positive_duration),
        default=default.timeout,
        help=f"time limit for the whole check, such as 500ms or 5s [{format_duration(default.timeout)}]",
    )
    add(
        "--subprotocol",
        metavar="NAME",
        type=_type(_parse_subprotocol),
        action="append",
        help="offer this subprotocol; the server must choose one of those offered",
    )
    add(
        "--header",
        metavar="'NAME: VALUE'",
        type=_type(_parse_field),
        action="append",
        help="send this header with the opening handshake",
    )
    add("--compress", action="store_true", help="offer permessage-deflate")
    add(
        "--http2",
        action="store_true",
        help="open the WebSocket over HTTP/2: with wss:// by ALPN, with ws:// by prior knowledge",
    )
    add("--insecure", action="store_true", help="accept any certificate")
    add("--json", action="store_true", help="write the report as one JSON object")
    return parser


def parse(arguments: Sequence[str]) -> tuple[Plan, bool]:
    """Return the plan, and whether the report is to be JSON. Raises `SystemExit` for a mistake."""
    values = make_parser().parse_args(arguments)
    plan = Plan(
        target=values.url,
        count=values.count,
        size=values.size,
        timeout=values.timeout,
        is_insecure=values.insecure,
        subprotocols=tuple(values.subprotocol or ()),
        fields=tuple(values.header or ()),
        offers_compression=values.compress,
        is_http2=values.http2,
    )
    return plan, values.json


def main(arguments: Sequence[str], out: TextIO, error_out: TextIO, react: Callable[..., NoReturn] | None = None) -> int:
    """Run a check and return the exit status. Raises `SystemExit` for a command line that is wrong.

    `react` runs the reactor; None stands for Twisted's own.
    """
    plan, is_json = parse(arguments)

    # Not before the command line is right: they load Twisted and Autobahn.
    from twisted.internet import task  # noqa: PLC0415

    from echod.check import probe  # noqa: PLC0415
    from echod.upstream import clock  # noqa: PLC0415

    progress = Progress(error_out)
    reports: list[Report] = []

    async def check(reactor: Any) -> None:
        clock.make_monotonic(reactor)
        stopped: list[None] = []
        # A signal stops the reactor, which then drops its connections. That is not the server's doing.
        reactor.addSystemEventTrigger("before", "shutdown", stopped.append, None)
        report = await probe.run(reactor, plan, progress.tell)
        if not stopped:
            reports.append(report)

    try:
        (react or task.react)(check)
    except SystemExit as end:
        if not reports:
            # After a failure of our own, react has written the traceback. Otherwise a signal has stopped the reactor.
            return os.EX_SOFTWARE if end.code else INTERRUPTED
    finally:
        progress.end()
    out.write(as_json(reports[0]) if is_json else as_text(reports[0]))
    return int(reports[0].outcome)

"""The admin site's first page: what a person wants to know at a glance, drawn anew every two seconds.

The figures are in the page itself, so that it tells them without a script, too; the script fetches it again and shows what the numbers
do from one time to the next. Knows HTML. Must never count: it shows what `counts`, the budget and the connections say.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from importlib.resources import files
from itertools import islice
from string import Template
from typing import Any

from echod import __version__
from echod.counts import LAGS, Counts
from echod.factory import EchoFactory
from echod.web.connections import describe
from echod.web.resources import HTML, Answer, inline_policy

NEWEST = 20
"""Connections on the page."""

LATE = 0.05
"""Seconds of lag, one of `LAGS`, that a person's echo is seen to be late by."""


class Overview:
    """The page of one daemon."""

    def __init__(self, factory: EchoFactory) -> None:
        page = files("echod.web").joinpath("overview.html").read_text("utf-8")
        self._factory = factory
        self._began = factory.clock.seconds()
        self._host = socket.gethostname()
        self._template = Template(page)
        # A `$$` of the template is a `$` of the script that a browser gets.
        self._policy = inline_policy(page.replace("$$", "$").encode(), "connect-src 'self'")

    def render(self, _: Any) -> Answer:
        """Answer with the page."""
        return Answer(HTTPStatus.OK, HTML, self._template.substitute(self._figures()).encode(), (self._policy,))

    def _figures(self) -> dict[str, str]:
        factory, counts, now = self._factory, self._factory.counts, self._factory.clock.seconds()
        received = [(lane, kind, of_type) for lane, ways in factory.traffic().items() for kind, of_type in ways[0].by_type()]
        messages, octets = (sum(numbers) for numbers in zip(*((of.messages, of.octets) for _, _, of in received), strict=True))
        return {
            "host": escape(self._host),
            "version": __version__,
            "state": factory.state.value,
            "up": describe_time(now - self._began),
            "open": f"{len(factory.live):,}",
            "limit": f"{factory.max_connections:,}",
            "messages": f"{messages:,}",
            "messages_plain": str(messages),
            "octets": describe_size(octets),
            "octets_plain": str(octets),
            "buffered": describe_size(factory.budget.total),
            "buffered_limit": describe_size(factory.settings.max_buffered),
            "backpressured": f"{sum(connection.is_backpressured for connection in factory.live):,}",
            **_lag(counts),
            "connections": _rows((_connection(describe(connection, now)) for connection in islice(reversed(factory.live), NEWEST)), 5),
            "traffic": _rows(([lane, kind, f"{of.messages:,}", describe_size(of.octets)] for lane, kind, of in received), 2),
            "outcomes": _rows(([outcome, f"{count:,}"] for outcome, count in sorted(counts.outcomes.items())), 1),
            "closes": _rows(([*kind, f"{count:,}"] for kind, count in sorted(counts.closes.items())), 2),
            "refusals": _rows(([*kind, f"{count:,}"] for kind, count in sorted(counts.refusals.items())), 2),
        }


def _lag(counts: Counts) -> dict[str, str]:
    places, total = counts.lags.places, counts.lags.total
    looks = sum(places)
    average = f"{1000 * total / looks:.1f} ms" if looks else "none"
    return {"late": f"{sum(places[LAGS.index(LATE) + 1 :]):,}", "looks": f"{looks:,}", "lag": average}


def _connection(told: dict[str, Any]) -> list[str]:
    received, sent = (f"{told[way]['messages']:,} · {describe_size(told[way]['octets'])}" for way in ("received", "sent"))
    waits = ", not read" if told["backpressured"] else ""
    lane = "+".join([told["lane"], *told["extensions"]])
    return [
        *(told["peer"], told["path"], told["state"] + waits, lane),
        *(describe_time(told["age"]), received, sent, describe_size(told["buffered"])),
    ]


def _rows(rows: Iterable[list[str]], numbers: int) -> str:
    """Return rows of a table whose columns are words, but for those behind the first `numbers` columns, counted from 0."""
    cells = [[f'<td class="{"words" if i < numbers else "number"}">{escape(cell)}</td>' for i, cell in enumerate(row)] for row in rows]
    return "\n".join(f"<tr>{''.join(row)}</tr>" for row in cells) or '<tr><td class="soft" colspan="8">none</td></tr>'


def describe_size(octets: int) -> str:
    """Return a size for a person: three figures and a unit."""
    size, units = float(octets), iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    while size >= 999.5 and unit != "PiB":
        size, unit = size / 1024, next(units)
    return f"{size:.3g} {unit}"


def describe_time(seconds: float) -> str:
    """Return a time that has passed for a person: its two largest units."""
    rest = int(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])

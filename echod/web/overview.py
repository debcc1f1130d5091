"""The admin site's first page: what a person wants to know at a glance, updated every two seconds.

The figures are in the page itself, so that it needs no script to show them. The script fetches the page again, and
shows how the numbers change. Knows HTML. Must never count, nor see the daemon: it gets the values of metrics, and what
is told of the newest connections.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from html import escape
from http import HTTPStatus
from importlib.resources import files
from string import Template
from typing import Any, cast

from twisted.internet.defer import Deferred, gatherResults

from echod import __version__
from echod.web.answers import HTML, Answer, inline_policy
from echod.web.metrics.values import AllValues, Observed, Values
from echod.web.sources import Source

NEWEST = 20
"""How many connections the page shows."""

LATE = 0.05
"""Seconds of lag that a person notices in an echo. It is one of `counts.LAGS`."""

_PAGE = files("echod.web").joinpath("overview.html").read_text("utf-8")
"""Read at import: with twistd's `--chroot` the file can't be reached any more when the daemon starts."""


class _Markup(str):
    """Text that is HTML."""

    __slots__ = ()


class Overview:
    """The page of one daemon."""

    def __init__(self, source: Source, clock: Any) -> None:
        self._source = source
        self._clock = clock
        self._began = clock.seconds()
        self._host = socket.gethostname()
        self._template = Template(_PAGE)
        # A `$$` in the template becomes a `$` in the script that a browser gets.
        self._policy = inline_policy(_PAGE.replace("$$", "$").encode(), "connect-src 'self'")

    def render(self, _: Any) -> Deferred[Answer]:
        """Answer with the page."""
        asked: list[Deferred[Any]] = [self._source.values(), self._source.newest(NEWEST)]
        return gatherResults(asked).addCallback(lambda found: self._answer(*found))

    def _answer(self, values: AllValues, newest: Iterable[dict[str, Any]]) -> Answer:
        return Answer(
            HTTPStatus.OK, HTML, self._template.substitute(self._figures(values, newest)).encode(), (self._policy,)
        )

    def _figures(self, values: AllValues, newest: Iterable[dict[str, Any]]) -> dict[str, str]:
        def gauge(name: str) -> int:
            return cast(int, values[name].get((), 0))

        received = [
            (lane, kind, cast(int, messages), cast(int, values["echod_payload_received_bytes_total"][kind, lane]))
            for (kind, lane), messages in values["echod_messages_received_total"].items()
        ]
        messages, octets = sum(row[2] for row in received), sum(row[3] for row in received)
        return {
            "host": escape(self._host),
            "version": __version__,
            "state": self._source.state.value,
            "up": describe_time(self._clock.seconds() - self._began),
            "open": f"{gauge('echod_connections_open'):,}",
            "limit": f"{gauge('echod_connections_limit'):,}",
            "messages": f"{messages:,}",
            "messages_plain": str(messages),
            "octets": describe_size(octets),
            "octets_plain": str(octets),
            "buffered": describe_size(gauge("echod_buffered_bytes")),
            "buffered_limit": describe_size(gauge("echod_buffered_limit_bytes")),
            "backpressured": f"{gauge('echod_connections_backpressured'):,}",
            **_lag(values["echod_event_loop_lag_seconds"]),
            "connections": _rows((_connection(told) for told in newest), 5),
            "traffic": _rows(
                ([lane, kind, f"{count:,}", describe_size(size)] for lane, kind, count, size in received), 2
            ),
            "outcomes": _counted(values["echod_connections_total"]),
            "closes": _counted(values["echod_closes_total"]),
            "refusals": _counted(values["echod_handshakes_refused_total"]),
        }


def _counted(values: Values) -> str:
    """Return a row for each kind of event that has happened: the kind, and how often it happened."""
    counted = sorted((kind, cast(int, count)) for kind, count in values.items() if count)
    return _rows(([*kind, f"{count:,}"] for kind, count in counted), max((len(kind) for kind, _ in counted), default=0))


def _lag(values: Values) -> dict[str, str]:
    observed = values.get(())
    places, total = (observed.places, observed.total) if isinstance(observed, Observed) else ({}, 0.0)
    looks = sum(places.values())
    average = f"{1000 * total / looks:.1f} ms" if looks else "none"
    late = sum(count for bound, count in places.items() if bound > LATE)
    return {"late": f"{late:,}", "looks": f"{looks:,}", "lag": average}


def _connection(told: dict[str, Any]) -> list[str]:
    received, sent = (
        f"{told[way]['messages']:,} · {describe_size(told[way]['octets'])}" for way in ("received", "sent")
    )
    waits = ", not read" if told["backpressured"] else ""
    lane = "+".join([told["lane"], *told["extensions"]])
    number = escape(told["number"])
    return [
        _Markup(f'<a href="connections/{number}">{number}</a>') if told["traced"] else number,
        *(told["peer"], told["path"], told["state"] + waits, lane),
        *(describe_time(told["age"]), received, sent, describe_size(told["buffered"])),
    ]


def _rows(rows: Iterable[list[str]], words: int) -> str:
    """Return the rows of a table. The first `words` columns hold words, the others numbers."""
    cells = [
        [f'<td class="{"words" if i < words else "number"}">{_escaped(cell)}</td>' for i, cell in enumerate(row)]
        for row in rows
    ]
    return "\n".join(f"<tr>{''.join(row)}</tr>" for row in cells) or '<tr><td class="soft" colspan="9">none</td></tr>'


def _escaped(cell: str) -> str:
    return cell if isinstance(cell, _Markup) else escape(cell)


def describe_size(octets: int) -> str:
    """Return a size for a person: three digits and a unit."""
    size, units = float(octets), iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    while size >= 999.5 and unit != "PiB":
        size, unit = size / 1024, next(units)
    return f"{size:.3g} {unit}"


def describe_time(seconds: float) -> str:
    """Return a duration for a person, in its two largest units."""
    rest = int(seconds)
    parts = []
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count or unit == "s":
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])

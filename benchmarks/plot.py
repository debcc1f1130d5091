"""Figures as a picture: bars for each kind of traffic, and lines for growth. The SVG is written without a library.

Knows: results, SVG. Must never know: how anything is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from math import log10
from typing import TYPE_CHECKING

from benchmarks.columns import COLUMNS, GROWTH, Column
from benchmarks.report import measured_servers, significant

if TYPE_CHECKING:
    from benchmarks.results import Results
    from benchmarks.servers import Server

SHOWN = (
    "small",
    "small-1k",
    "deep",
    "deep-1k",
    "medium",
    "large",
    "large-text",
    "fragments",
    "deflate",
    "takeover",
    "tls",
    "opens",
)
COLOURS = {
    "floor": "#9aa0a6",
    "echod": "#c5221f",
    "echod-2": "#9a0e0a",
    "echod-deflate": "#e8710a",
    "echod-off": "#f2a19b",
    "autobahn": "#5f6368",
    "gorilla": "#12a4af",
    "uwebsockets": "#0b5d66",
    "bun": "#c2185b",
    "ws": "#1e8e3e",
    "picows": "#1967d2",
    "aiohttp": "#7b1fa2",
    "websockets": "#b08900",
}
PANELS_PER_ROW = 3
WIDTH, BAR, LABEL, GAP, TITLE, FIGURE = 400, 16, 150, 30, 26, 60
LINES_HEIGHT, LEGEND = 300, 210


@dataclass(frozen=True)
class Box:
    """The place of a panel."""

    x: float
    y: float
    width: float
    height: float


def text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal", size: int = 11) -> str:
    """Return text on the picture."""
    font = f'font-weight="{weight}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {font}>{escape(words)}</text>'


def plain_title(server: Server) -> str:
    """Without Markdown."""
    return server.title.replace("`", "")


def bars(results: Results, column: Column, servers: list[Server], box: Box) -> list[str]:
    """Return one panel of bars. The highest rate fills the width."""
    rates = {server.key: results.rate(server.key, column.key) for server in servers}
    most = max((rate for rate in rates.values() if rate), default=1.0)
    parts = [
        text(
            box.x,
            box.y + 12,
            column.title if column.mode == "echo" else f"{column.title} ({column.unit})",
            weight="bold",
            size=12,
        )
    ]
    shown = [server for server in servers if rates[server.key] is not None]
    for row, server in enumerate(shown):
        rate = rates[server.key] or 0.0
        y = box.y + TITLE + row * BAR
        length = (box.width - LABEL - FIGURE) * rate / most
        parts.append(text(box.x + LABEL - 6, y + 11, plain_title(server), anchor="end"))
        parts.append(
            f'<rect x="{box.x + LABEL:.1f}" y="{y + 1:.1f}" width="{max(length, 1):.1f}" '
            f'height="{BAR - 3}" fill="{COLOURS[server.key]}"/>'
        )
        mark = " ¹" if results.limited(server.key, column.key) else ""
        parts.append(text(box.x + LABEL + length + 4, y + 11, significant(rate) + mark))
    return parts


def bar_count(results: Results, column: Column, servers: list[Server]) -> int:
    """Return the number of servers that have a figure in this column."""
    return sum(results.rate(server.key, column.key) is not None for server in servers)


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from values to coordinates."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.start + (self.end - self.start) * (log10(value) - log10(self.low)) / (
            log10(self.high) - log10(self.low)
        )

    def decades(self) -> list[float]:
        """Return the powers of ten in the range."""
        return [10.0**power for power in range(20) if self.low <= 10.0**power <= self.high]


def growth_lines(results: Results, servers: list[Server], box: Box) -> list[str]:
    """Return the lines of rates over numbers of connections, both on logarithmic scales."""
    points = {
        server.key: [(column.connections, rate) for column in GROWTH if (rate := results.rate(server.key, column.key))]
        for server in servers
    }
    rates = [rate for line in points.values() for _, rate in line]
    if len({connections for line in points.values() for connections, _ in line}) < 2:
        return []
    across = Scale(1, 10_000, box.x + 60, box.x + box.width - LEGEND)
    up = Scale(min(rates) * 0.8, max(rates) * 1.25, box.y + box.height - 30, box.y + TITLE)
    parts = [
        text(
            box.x,
            box.y + 12,
            "Messages per second over connections, 16 B text, one in flight on each",
            weight="bold",
            size=12,
        )
    ]
    for value in across.decades():
        parts.append(text(across(value), box.y + box.height - 12, f"{value:,.0f}", anchor="middle"))
        parts.append(
            f'<line x1="{across(value):.1f}" x2="{across(value):.1f}" '
            f'y1="{up.start:.1f}" y2="{up.end:.1f}" stroke="#ddd"/>'
        )
    for value in up.decades():
        parts.append(text(box.x + 54, up(value) + 4, f"{value:,.0f}", anchor="end"))
        parts.append(
            f'<line x1="{across.start:.1f}" x2="{across.end:.1f}" '
            f'y1="{up(value):.1f}" y2="{up(value):.1f}" stroke="#ddd"/>'
        )
    for server in servers:
        line = points[server.key]
        if line:
            path = " ".join(f"{across(connections):.1f},{up(rate):.1f}" for connections, rate in line)
            parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[server.key]}" stroke-width="2"/>')
    return parts + growth_legend([server for server in servers if points[server.key]], box)


def growth_legend(servers: list[Server], box: Box) -> list[str]:
    """Return the names beside the lines, in the servers' order. At the ends of the lines the names would overlap."""
    parts = []
    for row, server in enumerate(servers):
        x, y = box.x + box.width - LEGEND + 16, box.y + TITLE + 8 + row * BAR
        parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="10" height="10" fill="{COLOURS[server.key]}"/>')
        parts.append(text(x + 15, y + 9, plain_title(server)))
    return parts


def svg(results: Results) -> str:
    """Return the whole picture."""
    servers = measured_servers(results)
    keys = {sample.column for sample in results.samples if not sample.error}
    columns = [column for column in COLUMNS if column.key in SHOWN and column.key in keys]
    width = PANELS_PER_ROW * WIDTH + 20
    height = 10
    parts = [text(10, height + 12, "Messages per second, on one core")]
    height += TITLE
    for first in range(0, len(columns), PANELS_PER_ROW):
        row = columns[first : first + PANELS_PER_ROW]
        row_height = TITLE + GAP + BAR * max(bar_count(results, column, servers) for column in row)
        for place, column in enumerate(row):
            parts += bars(results, column, servers, Box(10 + place * WIDTH, height, WIDTH, row_height))
        height += row_height
    lines = growth_lines(results, servers, Box(10, height, width - 20, LINES_HEIGHT))
    height += LINES_HEIGHT + 20 if lines else 0
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" fill="#202124">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="#fff"/>', *parts, *lines, "</svg>"]) + "\n"

"""Writes figures as Markdown tables, and puts them between the markers of the documentation.

Knows: results, columns, servers, Markdown. Must never know: how anything is measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.columns import COLUMNS, GROWTH, MANY, MEMORY, PACED, PINGED, SHARED, STORMS, Column
from benchmarks.results import LIMITED_SHARE, QUIET_SHARE, Results
from benchmarks.servers import SERVERS, Server
from benchmarks.targets import TARGETS, Target

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Sample

BEGIN = "<!-- figures: begin (python -m benchmarks --write-docs renews them) -->"
END = "<!-- figures: end -->"

LIMITED_MARK = " ¹"
CPU_MARK = " ²"
EMPTY = "\N{EN DASH}"
TIMES = "\N{MULTIPLICATION SIGN}"

RATE_WORDS = "Messages, opens or pings per second."
CPU_WORDS = (
    "Microseconds of CPU time of all the server's processes, per message, open or ping; in a storm per client that "
    "comes back."
)
LATENCY_WORDS = (
    "Microseconds from sending a message to the last byte of its answer (opens: from connecting to the "
    "end), 50 % / 99 %."
)
STORM_WORDS = (
    "Seconds until the last client is back and has its first answer / microseconds in which the connections that stay "
    "get their answers meanwhile, 50 % / 99 % / 100 %."
)
GROWTH_WORDS = (
    "Messages per second / MiB of the whole server, while so many connections each have one message in flight."
)
SHARED_WORDS = (
    "Messages, or opens, per second / microseconds of CPU time of all the server's processes for each, "
    "where server and load generator"
    " have both cores together."
)
MEMORY_WORDS = (
    "KiB per idle connection: proportional set size of the server's processes, without what the kernel keeps."
)

OTHER = [*MEMORY, *PACED, *MANY, *PINGED, *STORMS, *SHARED]
"""Columns whose rates are not in the table of rates."""

AGAINST = {
    "gorilla": "gorilla/websocket",
    "uwebsockets": "uWebSockets",
    "autobahn": "plain Autobahn",
    "floor": "bare C echo",
}
"""The servers with which echod is compared."""

Cell = Callable[[Server, Column], str]


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table. The first cell of a row is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def significant(value: float) -> str:
    """Format three significant digits. The noise of the machine makes more of them meaningless."""
    if value >= 1000:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def or_empty(value: float | None) -> str:
    """Return a figure, or the sign for a missing one."""
    return EMPTY if value is None else significant(value)


def measured_columns(results: Results) -> list[Column]:
    """Return the measured columns in the order of `COLUMNS`."""
    keys = {sample.column for sample in results.samples}
    return [column for column in COLUMNS if column.key in keys]


def measured_servers(results: Results) -> list[Server]:
    """Return the measured servers in the order of `SERVERS`."""
    keys = {sample.server for sample in results.samples}
    return [server for server in SERVERS if server.key in keys]


def grid(results: Results, columns: list[Column], cell: Cell, words: str) -> str:
    """Return a table with a row for each kind of traffic and a column for each server. Rows without figures are left
    out."""
    servers = [server for server in measured_servers(results) if any(server.serves(column) for column in columns)]
    rows = [[column.title, *[cell(server, column) for server in servers]] for column in columns]
    rows = [row for row in rows if set(row[1:]) != {EMPTY}]
    return f"{words}\n\n{table(['', *[server.title for server in servers]], rows)}" if rows else ""


def rate_cell(results: Results) -> Cell:
    """Make cells with a rate, marked if the generator was the limit or a round failed."""

    def cell(server: Server, column: Column) -> str:
        rate = results.rate(server.key, column.key)
        if rate is None:
            return "failed" if results.error(server.key, column.key) else EMPTY
        mark = LIMITED_MARK if results.limited(server.key, column.key) else ""
        return significant(rate) + mark

    return cell


def cpu_cell(results: Results) -> Cell:
    """Make cells with the server's CPU time per message."""
    return lambda server, column: or_empty(results.cpu(server.key, column.key))


def latency_cell(results: Results) -> Cell:
    """Make cells with the median and the 99th percentile."""

    def cell(server: Server, column: Column) -> str:
        half = results.median(server.key, column.key, lambda s: s.p50)
        most = results.median(server.key, column.key, lambda s: s.p99)
        return EMPTY if half is None or most is None else f"{significant(half)} / {significant(most)}"

    return cell


def storm_cell(results: Results) -> Cell:
    """Make cells with the length of the storm, and with what those see that stay."""

    def cell(server: Server, column: Column) -> str:
        def of(value: Callable[[Sample], float]) -> str:
            return or_empty(results.median(server.key, column.key, value))

        if not results.of(server.key, column.key):
            return "failed" if results.error(server.key, column.key) else EMPTY
        return " / ".join([of(lambda s: s.seconds), of(lambda s: s.p50), of(lambda s: s.p99), of(lambda s: s.max)])

    return cell


def memory_cell(results: Results) -> Cell:
    """Make cells with KiB per connection."""
    return lambda server, column: or_empty(results.kib_per_connection(server.key, column.key))


def growth_cell(results: Results) -> Cell:
    """Make cells with the rate, and the memory of the whole server."""

    def cell(server: Server, column: Column) -> str:
        rate = results.rate(server.key, column.key)
        pss = results.median(server.key, column.key, lambda s: s.pss / 1024)
        if rate is None or pss is None:
            return "failed" if results.error(server.key, column.key) else EMPTY
        return f"{significant(rate)} / {significant(pss)}"

    return cell


def shared_cell(results: Results) -> Cell:
    """Make cells with the rate, and the server's CPU time per message."""
    rate, cpu = rate_cell(results), cpu_cell(results)
    return lambda server, column: " / ".join(dict.fromkeys((rate(server, column), cpu(server, column))))


def processes(results: Results) -> str:
    """Return the memory of each process of echod on shared cores before it has connections."""
    lines = []
    for server in measured_servers(results):
        found = [results.of(server.key, column.key) for column in SHARED if server.key.startswith("echod")]
        each = [sample.processes for samples in found for sample in samples if sample.processes]
        if each:
            mebibytes = " + ".join(significant(median(of_process) / 1024) for of_process in zip(*each, strict=False))
            lines.append(
                f"- {server.title}: {mebibytes} MiB without a connection; proportional set size of each "
                "process, the parent's first"
            )
    return "\n".join(lines)


def shared(results: Results, columns: list[Column]) -> str:
    """Return the tables that show the gain from a second core."""
    table_ = grid(results, columns, shared_cell(results), SHARED_WORDS)
    return f"{table_}\n\n{processes(results)}" if table_ else ""


def ratio_cell(results: Results, server: Server, column: Column, against: str) -> str:
    """Return how many times as fast a server is as another. Where the load generator limited one of the two rates, the
    CPU times are compared."""
    if results.limited(server.key, column.key) or results.limited(against, column.key):
        value, mark = results.cpu_ratio(server.key, column.key, against), CPU_MARK
    else:
        value, mark = results.ratio(server.key, column.key, against), ""
    return EMPTY if value is None else significant(value) + mark


def ratios(results: Results) -> str:
    """Return a table that compares echod with the most important other servers."""
    servers = [server for server in measured_servers(results) if server.key.startswith("echod")]
    rows = []
    for column in measured_columns(results):
        if column in OTHER:
            continue
        for server in servers:
            cells = [ratio_cell(results, server, column, other) for other in AGAINST]
            if set(cells) != {EMPTY}:
                rows.append([f"{column.title}: {server.title}", *cells])
    return table(["", *[f"÷ {words}" for words in AGAINST.values()]], rows) if rows else ""


def title_of(key: str, column: str) -> str:
    """Return the titles of a target's server and column."""
    server = next(server.title for server in SERVERS if server.key == key)
    return f"{server}: {next(c.title for c in COLUMNS if c.key == column)}"


def target_words(target: Target) -> str:
    """Return a target in words."""
    counted = next(c.counted for c in COLUMNS if c.key == target.column)
    quantity = {"rate": "rate", "cpu": f"server CPU per {counted}"}.get(target.quantity, target.quantity)
    unit = " µs" if target.quantity == "cpu" else ""
    sign = "≤" if target.at_most else "≥"
    if target.against:
        other = next(server.title for server in SERVERS if server.key == target.against)
        return f"{quantity} {sign} {target.bound:g} {TIMES} {other}"
    if target.against_column:
        other = next(c.title for c in COLUMNS if c.key == target.against_column)
        return f"{quantity} {sign} {target.bound:g} {TIMES} its own at {other}"
    return f"{quantity} {sign} {target.bound:,g}{unit}"


def target_row(target: Target, results: Results) -> list[str]:
    """Return a row with the target, the measured value, and whether the target was reached."""
    value = target.value(results)
    limited = target.quantity == "rate" and results.limited(target.server, target.column)
    verdict = {True: "reached", False: "**not reached**", None: "not measured"}[target.is_reached(results)]
    measured = or_empty(value) + (LIMITED_MARK if limited and value is not None else "")
    return [title_of(target.server, target.column), target_words(target), measured, verdict]


def targets(results: Results) -> str:
    """Return a table of every target whose column and server were measured."""
    keys = {(sample.server, sample.column) for sample in results.samples}
    rows = [target_row(target, results) for target in TARGETS if (target.server, target.column) in keys]
    return table(["Traffic", "Target", "Measured", ""], rows) if rows else ""


def versions(results: Results) -> str:
    """Return the list of measured servers with their versions."""
    rows = [[server.title, results.versions[server.key]] for server in SERVERS if server.key in results.versions]
    return "\n".join(f"- {title}: {version}" for title, version in rows)


def without_paths(words: str) -> str:
    """Remove paths from a program's output, because they mean nothing to a reader."""
    return re.sub(r"(?:/[\w.+-]+)+/", "", words)


def notes(results: Results) -> str:
    """Return the explanations of marks, failures and missing servers."""
    lines = [
        f"¹ the load generator used more than {LIMITED_SHARE:.0%} of its core: the server may do more, and its CPU "
        "time is the better measure.",
        "² the load generator limited one of the two rates: this is the ratio of the CPU times.",
    ]
    spread = results.spread()
    if spread is not None:
        lines.append(
            f"Between the rounds a rate differed by {spread:.0%} (the median over all cells of the range "
            "divided by the median)."
        )
    for column in measured_columns(results):
        fewest = min(
            (s.connections for s in results.samples if s.column == column.key and not s.error), default=column.opened
        )
        if fewest < column.opened:
            lines.append(f"{column.title}: {fewest:,} connections at once, because the machine allows no more files.")
    for server in measured_servers(results):
        for column in measured_columns(results):
            error = results.error(server.key, column.key)
            if error:
                lines.append(f"{server.title}, {column.title}: {without_paths(error)}.")
    lines += [
        f"{next(s.title for s in SERVERS if s.key == key)} was left out: {without_paths(reason)}."
        for key, reason in results.missing.items()
    ]
    return "\n".join(f"- {line}" for line in lines)


def facts(results: Results) -> str:
    """Return the machine and the settings, with a warning if other processes took much of the machine."""
    settings = results.machine | results.settings | {"taken by other processes meanwhile": f"{results.bystanders:.0%}"}
    if results.bystanders > QUIET_SHARE:
        settings["**the machine was not quiet**"] = "these figures show that everything runs, and no more"
    return "\n".join(f"- {name}: {value}" for name, value in settings.items())


def markdown(results: Results) -> str:
    """Return the whole report."""
    columns = measured_columns(results)
    steady = [column for column in columns if column not in OTHER]
    timed = [column for column in columns if column not in MEMORY and not column.shared]
    answered = [column for column in timed if column not in PINGED and column not in STORMS]
    storms = [column for column in columns if column in STORMS]
    memory = [column for column in columns if column in MEMORY]
    growth = [column for column in columns if column in GROWTH]
    sections = [
        ("Machine", facts(results)),
        ("Servers", versions(results)),
        ("Rates", grid(results, steady, rate_cell(results), RATE_WORDS)),
        ("Ratios", ratios(results)),
        ("Targets", targets(results)),
        ("Server CPU time", grid(results, timed, cpu_cell(results), CPU_WORDS)),
        ("Latency", grid(results, answered, latency_cell(results), LATENCY_WORDS)),
        ("Reconnect storms", grid(results, storms, storm_cell(results), STORM_WORDS)),
        ("Growth", grid(results, growth, growth_cell(results), GROWTH_WORDS)),
        ("Both cores", shared(results, [column for column in columns if column.shared])),
        ("Memory", grid(results, memory, memory_cell(results), MEMORY_WORDS)),
        ("Notes", notes(results)),
    ]
    return "\n\n".join(f"### {title}\n\n{body}" for title, body in sections if body)


def write_into(path: Path, text: str) -> None:
    """Replace the text between the markers. The rest of the file is written by hand."""
    before, found, rest = path.read_text().partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise SystemExit(f"benchmarks: {path.name} has no markers to write between")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")

"""``python -m benchmarks``: builds, measures, prints the tables, and saves the raw figures and the picture.

Knows: the command line. Must never know: how anything is built, measured or shown.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TypeVar

from benchmarks import build, machine, measure, plot, report, results
from benchmarks.columns import COLUMNS, Column
from benchmarks.servers import SERVERS, Server

DOCS = build.ROOT / "docs" / "performance.md"
PICTURE = build.ROOT / "docs" / "performance.svg"

Choice = TypeVar("Choice", Server, Column)

FULL = {"seconds": 1.0, "warmup": 0.4, "rounds": 3, "budget": 74 * 60.0}
QUICK = {"seconds": 0.4, "warmup": 0.2, "rounds": 1, "budget": 170.0}


def arguments() -> argparse.Namespace:
    """Return the parsed command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure echod beside other WebSocket echo servers."
    )
    parser.add_argument(
        "--quick", action="store_true", help="measure few servers, each briefly, in one round: under three minutes"
    )
    parser.add_argument("--servers", metavar="A,B", help="only these: " + ", ".join(server.key for server in SERVERS))
    parser.add_argument("--columns", metavar="X,Y", help="only these: " + ", ".join(column.key for column in COLUMNS))
    parser.add_argument(
        "--rounds", type=int, help="measurements of each cell, of which the median counts [3, with --quick 1]"
    )
    parser.add_argument("--seconds", type=float, help="duration of each measurement, in seconds [1, with --quick 0.4]")
    parser.add_argument(
        "--output",
        type=Path,
        default=build.BUILD / "results.json",
        help="file for the raw figures [build/benchmarks/results.json]",
    )
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="show the raw figures of an earlier run; measure nothing",
    )
    parser.add_argument("--write-docs", action="store_true", help="put tables and picture into docs/performance.md")
    return parser.parse_args()


def chosen(words: str | None, known: list[Choice], quick: bool) -> list[Choice]:
    """Return the named choices, or all choices of a quick or a full run."""
    if words is None:
        return [one for one in known if one.quick or not quick]
    by_key = {one.key: one for one in known}
    unknown = [word for word in words.split(",") if word not in by_key]
    if unknown:
        raise SystemExit(f"benchmarks: unknown: {', '.join(unknown)}; known: {', '.join(by_key)}")
    return [by_key[word] for word in words.split(",")]


def tell(line: str) -> None:
    """Print progress, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def ask_versions(servers: list[Server]) -> tuple[dict[str, str], dict[str, str]]:
    """Return the versions of the available servers, and the reasons why others are missing. This builds and installs
    what is needed."""
    here: dict[str, str] = {}
    missing: dict[str, str] = {}
    for server in servers:
        try:
            here[server.key] = server.version()
        except (build.Unavailable, ImportError) as reason:
            missing[server.key] = str(reason)
            tell(f"{server.key}: left out: {reason}")
    return here, missing


def run(options: argparse.Namespace) -> results.Results:
    """Measure the chosen servers and columns."""
    server_core, generator_core = measure.choose_cores()
    defaults = QUICK if options.quick else FULL
    plan = measure.Plan(
        seconds=options.seconds or defaults["seconds"],
        warmup=defaults["warmup"],
        rounds=options.rounds or int(defaults["rounds"]),
        budget=defaults["budget"],
        server_core=server_core,
        generator_core=generator_core,
    )
    servers = chosen(options.servers, SERVERS, options.quick)
    here, missing = ask_versions(servers)
    columns = chosen(options.columns, COLUMNS, options.quick)
    bystanders = machine.Bystanders()
    samples = measure.run_rounds([server for server in servers if server.key in here], columns, plan, tell)
    settings = {
        "server on core": str(server_core),
        "load generator on core": str(generator_core),
        "seconds": f"{plan.seconds:g} after {plan.warmup:g} to warm up",
        "rounds": str(1 + max((sample.turn for sample in samples), default=0)),
    }
    return results.Results(machine.facts(), settings, here, missing, bystanders.share(), samples)


def main() -> None:
    """Carry out the command line."""
    options = arguments()
    found = results.load(options.source) if options.source else run(options)
    if not options.source:
        results.save(found, options.output)
    text = report.markdown(found)
    print(text)
    picture = PICTURE if options.write_docs else options.output.with_suffix(".svg")
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(plot.svg(found))
    if options.write_docs:
        report.write_into(DOCS, f"![Rates]({PICTURE.name})\n\n{text}")
    tell(f"raw figures: {options.source or options.output}; picture: {picture}")


if __name__ == "__main__":
    main()

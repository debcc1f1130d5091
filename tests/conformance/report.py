"""Merges the reports of all units: into one folder with an index, and into a summary to print.

Knows the file names in the suite's reports. Must never judge: the caller tells it which cases failed.
"""

from __future__ import annotations

import html
import json
import shutil
from typing import TYPE_CHECKING

from .cases import case_order, section_of
from .judge import Failure, Result, Tally, total

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .run import Outcome

COLUMNS = ("section", "cases", "OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "missing", "seconds")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Conformance</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
table {{ border-collapse: collapse; margin-bottom: 2em; }}
td, th {{ border: 1px solid #bbb; padding: .2em .6em; text-align: left; }}
td.number {{ text-align: right; }}
.good {{ background: #dfd; }} .bad {{ background: #fbb; }}
</style>
</head>
<body>
<h1>Autobahn testsuite</h1>
<pre>{text}</pre>
<table>
<tr><th>case</th><th>behaviour</th><th>close</th><th>close code</th><th>ms</th><th>fault</th></tr>
{rows}
</table>
</body>
</html>
"""


def clear(report: Path, agent: str) -> None:
    """Remove the files of an earlier run from a folder, recognised by their names, and nothing else."""
    for pattern in ("index.html", "index.json", f"{agent}_case_*.html", f"{agent}_case_*.json"):
        for stale in report.glob(pattern):
            stale.unlink()
    for unit in report.glob("unit-*"):
        shutil.rmtree(unit)


def gather(report: Path, outcomes: Sequence[Outcome], agent: str) -> dict[str, Result]:
    """Move the case reports of all units into one folder, write its index.json, and return the results of all units."""
    merged: dict[str, object] = {}
    results: dict[str, Result] = {}
    for outcome in outcomes:
        index = outcome.folder / "index.json"
        if index.exists():
            merged.update(json.loads(index.read_text()).get(agent, {}))
        results.update(outcome.results)
        for suffix in ("html", "json"):
            for case in outcome.folder.glob(f"{agent}_case_*.{suffix}"):
                case.rename(report / case.name)
            # The index of a unit would name files that are no longer in the same folder.
            (outcome.folder / f"index.{suffix}").unlink(missing_ok=True)
    (report / "index.json").write_text(json.dumps({agent: merged}, indent=3, sort_keys=True))
    return results


def explain(report: Path, failure: Failure, result: Result | None) -> str:
    """Return the reason for a failure, and what the suite's own report says about the case."""
    file = report / result.reportfile if result and result.reportfile else None
    if not (file and file.is_file()):
        return failure.reason
    case = json.loads(file.read_text())
    return f"{failure.reason} ({case.get('result')} / {case.get('resultClose')})"


def failure_lines(reasons: Mapping[str, str]) -> list[str]:
    """Return a line for each reason with all its cases: a unit that did not finish lacks dozens of cases."""
    cases: dict[str, list[str]] = {}
    for case, reason in reasons.items():
        cases.setdefault(reason, []).append(case)
    return [f"case {', '.join(same)}: {reason}" for reason, same in cases.items()]


def summary(tallies: Mapping[int, Tally]) -> str:
    """Return the counts of each section and of all sections as a text table."""
    rows = [
        COLUMNS,
        *(_row(str(section), counts) for section, counts in tallies.items()),
        _row("all", total(tallies.values())),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _row(name: str, counts: Tally) -> tuple[str, ...]:
    numbers = (counts.cases, counts.ok, counts.non_strict, counts.informational, counts.failed, counts.missing)
    return (name, *map(str, numbers), f"{counts.milliseconds / 1000:.1f}")


def write_page(
    report: Path, text: str, expected: Iterable[str], results: Mapping[str, Result], faults: Mapping[str, str]
) -> Path:
    """Write the index of the report, which links to the suite's own page of each case, and return its path."""
    rows: list[str] = []
    section = None
    for case in sorted({*expected, *results}, key=case_order):
        if section != section_of(case):
            section = section_of(case)
            rows.append(f'<tr><th colspan="6">section {section}</th></tr>')
        rows.append(_case_row(case, results.get(case), faults.get(case)))
    page = report / "index.html"
    page.write_text(_PAGE.format(text=html.escape(text), rows="\n".join(rows)), encoding="utf-8")
    return page


def _case_row(case: str, result: Result | None, fault: str | None) -> str:
    colour = "bad" if fault else "good"
    fault_cell = f"<td>{html.escape(fault or '')}</td>"
    if result is None:
        return f'<tr class="{colour}"><td>{case}</td><td colspan="4">missing</td>{fault_cell}</tr>'
    link = f'<a href="{html.escape(result.reportfile.removesuffix("json"))}html">{case}</a>'
    words = f"<td>{html.escape(result.behavior)}</td><td>{html.escape(result.behavior_close)}</td>"
    numbers = f'<td class="number">{result.close_code or ""}</td><td class="number">{result.milliseconds}</td>'
    return f'<tr class="{colour}"><td>{link}</td>{words}{numbers}{fault_cell}</tr>'

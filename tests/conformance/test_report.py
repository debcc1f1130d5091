"""The merged report: nothing of a unit is lost, and no file of others is touched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .cases import Unit
from .judge import Failure, Result, read_index, tally
from .report import clear, explain, failure_lines, gather, summary, write_page
from .run import Outcome

if TYPE_CHECKING:
    from pathlib import Path

AGENT = "echod"


def unit_folder(report: Path, name: str, *cases: str) -> Outcome:
    """Write what wstest leaves behind for a unit whose cases all pass."""
    folder = report / f"unit-{name}"
    folder.mkdir(parents=True)
    index = {}
    for case in cases:
        file = f"{AGENT}_case_{case.replace('.', '_')}"
        index[case] = {
            "behavior": "OK",
            "behaviorClose": "OK",
            "duration": 5,
            "remoteCloseCode": 1000,
            "reportfile": f"{file}.json",
        }
        (folder / f"{file}.json").write_text(json.dumps({"result": f"result of {case}", "resultClose": "closed"}))
        (folder / f"{file}.html").write_text(case)
    (folder / "index.json").write_text(json.dumps({AGENT: index}))
    (folder / "index.html").write_text("the suite's own")
    (folder / "daemon.log").write_text("log")
    return Outcome(Unit(name, cases), folder, read_index({AGENT: index}))


def test_units_become_one_report(tmp_path: Path) -> None:
    outcomes = [unit_folder(tmp_path, "short", "1.1.1", "2.10"), unit_folder(tmp_path, "12.1", "12.1.1")]
    found = gather(tmp_path, outcomes, AGENT)
    assert list(found) == ["1.1.1", "2.10", "12.1.1"]
    assert read_index(json.loads((tmp_path / "index.json").read_text())) == found
    assert (tmp_path / "echod_case_12_1_1.html").read_text() == "12.1.1"
    assert sorted(file.name for file in (tmp_path / "unit-short").iterdir()) == ["daemon.log"]


def test_a_unit_without_report_leaves_the_others(tmp_path: Path) -> None:
    (tmp_path / "unit-12.1").mkdir()
    outcomes = [Outcome(Unit("12.1", ("12.1.1",)), tmp_path / "unit-12.1"), unit_folder(tmp_path, "short", "1.1.1")]
    assert list(gather(tmp_path, outcomes, AGENT)) == ["1.1.1"]


def test_clear_takes_only_what_a_run_leaves(tmp_path: Path) -> None:
    gather(tmp_path, [unit_folder(tmp_path, "short", "1.1.1")], AGENT)
    write_page(tmp_path, "", [], {}, {})
    (tmp_path / "notes.html").write_text("a person's")
    clear(tmp_path, AGENT)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.html"]


def test_explain_adds_what_the_suite_says(tmp_path: Path) -> None:
    found = gather(tmp_path, [unit_folder(tmp_path, "short", "1.1.1")], AGENT)
    assert explain(tmp_path, Failure("1.1.1", "wrong"), found["1.1.1"]) == "wrong (result of 1.1.1 / closed)"
    assert explain(tmp_path, Failure("1.1.2", "missing"), None) == "missing"


def test_cases_with_the_same_reason_share_a_line() -> None:
    assert failure_lines({"1.1.1": "missing", "2.1": "wrong", "3.1": "missing"}) == [
        "case 1.1.1, 3.1: missing",
        "case 2.1: wrong",
    ]


def test_summary_is_a_table_by_section() -> None:
    found = {"1.1.1": Result("1.1.1", "OK", "OK", 1250), "7.1.6": Result("7.1.6", "INFORMATIONAL", "INFORMATIONAL", 40)}
    assert summary(tally(["1.1.1", "1.1.2", "7.1.6"], found)).splitlines() == [
        "section  cases  OK  NON-STRICT  INFORMATIONAL  FAILED  missing  seconds",
        "      1      2   1           0              0       0        1      1.2",
        "      7      1   0           0              1       0        0      0.0",
        "    all      3   1           0              1       0        1      1.3",
    ]


def test_page_links_each_case_and_marks_faults(tmp_path: Path) -> None:
    found = {"1.1.1": Result("1.1.1", "FAILED", "OK", 3, 1000, "echod_case_1_1_1.json")}
    page = write_page(
        tmp_path, "a < b", ["1.1.1", "2.1"], found, {"1.1.1": "expected <this>", "2.1": "missing from the report"}
    )
    text = page.read_text()
    assert "<pre>a &lt; b</pre>" in text
    assert '<tr class="bad"><td><a href="echod_case_1_1_1.html">1.1.1</a></td><td>FAILED</td>' in text
    assert "expected &lt;this&gt;" in text
    assert '<tr class="bad"><td>2.1</td><td colspan="4">missing</td>' in text
    assert text.index("section 1") < text.index("section 2")

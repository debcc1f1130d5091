"""The report of a check."""

from __future__ import annotations

import pytest

from echod.check.report import MAX_LINE, CheckOutcome, Fault, Plan, Report, Step, printable
from echod.http.ws_url import parse


def test_printed_text_is_escaped_and_cut() -> None:
    assert printable("a\x1b\u202e\n\\b") == "a\\x1b\\u202e\\n\\\\b"
    assert printable("x" * MAX_LINE) == "x" * MAX_LINE
    assert printable("x" * 10**6) == "x" * (MAX_LINE - 1) + "…"


@pytest.mark.parametrize(
    ("step", "is_late", "outcome"),
    [
        (Step.TCP, False, CheckOutcome.NO_CONNECTION),
        (Step.ECHO, False, CheckOutcome.WRONG_ECHO),
        (Step.ECHO, True, CheckOutcome.TIMEOUT),
    ],
)
def test_the_outcome_depends_on_the_step_that_failed(step: Step, is_late: bool, outcome: CheckOutcome) -> None:
    report = Report(Plan(parse("ws://localhost")))
    report.enter(Step.TCP)
    report.note("odd\n")
    report.fail(Fault(step, "what\x1b", ["", "seen\x07"]), is_late)
    assert (report.step, report.outcome, report.what, report.seen) == (step, outcome, "what\\x1b", ["seen\\x07"])
    assert (report.notes, list(report.times)) == (["odd\\n"], [Step.DNS])

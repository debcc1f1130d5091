"""The judgement of cases: every result except the one right one is a failure."""

from __future__ import annotations

import pytest

from .judge import INFORMATIONAL_CASES, Failure, Result, Tally, judge, read_index, tally, total


def results(**outcomes: tuple[str, str]) -> dict[str, Result]:
    """Return results by case. In the names an underscore replaces the dot, which a keyword can't contain."""
    named = {name.removeprefix("c").replace("_", "."): outcome for name, outcome in outcomes.items()}
    return {case: Result(case, behavior, close, milliseconds=1500) for case, (behavior, close) in named.items()}


def failed_cases(expected: list[str], found: dict[str, Result]) -> list[str]:
    return [failure.case for failure in judge(expected, found)]


def test_all_as_expected() -> None:
    found = results(c1_1_1=("OK", "OK"), c7_1_6=("INFORMATIONAL", "INFORMATIONAL"))
    assert judge(["1.1.1", "7.1.6"], found) == []


def test_a_missing_case_is_a_failure() -> None:
    assert judge(["1.1.1", "1.1.2"], results(c1_1_1=("OK", "OK"))) == [Failure("1.1.2", "missing from the report")]


def test_an_empty_report_fails_every_case() -> None:
    assert failed_cases(["2.10", "2.9"], {}) == ["2.9", "2.10"]


def test_a_case_that_was_not_asked_for_is_a_failure() -> None:
    assert failed_cases([], results(c1_1_1=("OK", "OK"))) == ["1.1.1"]


@pytest.mark.parametrize(
    "outcome",
    [
        ("NON-STRICT", "OK"),
        ("FAILED", "OK"),
        ("UNIMPLEMENTED", "OK"),
        ("INFORMATIONAL", "INFORMATIONAL"),
        ("OK", "INFORMATIONAL"),
        ("OK", "UNCLEAN"),
        ("OK", "WRONG CODE"),
        ("OK", "FAILED BY CLIENT"),
        ("OK", "FAILED"),
        ("ok", "OK"),
        ("", ""),
    ],
)
def test_anything_but_ok_in_both_is_a_failure(outcome: tuple[str, str]) -> None:
    (failure,) = judge(["3.2"], results(c3_2=outcome))
    assert failure == Failure("3.2", f"behavior {outcome[0]}, behaviorClose {outcome[1]}; both must be OK")


@pytest.mark.parametrize("case", INFORMATIONAL_CASES)
@pytest.mark.parametrize(
    "outcome",
    [("OK", "OK"), ("NON-STRICT", "OK"), ("OK", "INFORMATIONAL"), ("INFORMATIONAL", "OK"), ("FAILED", "FAILED")],
)
def test_an_informational_case_that_is_anything_else_is_a_failure(case: str, outcome: tuple[str, str]) -> None:
    (failure,) = judge([case], {case: Result(case, *outcome)})
    assert failure.reason.endswith("both must be INFORMATIONAL")


def test_tally_counts_each_case_once_under_the_worse_of_its_words() -> None:
    found = results(
        c9_1_1=("OK", "OK"),
        c9_1_2=("NON-STRICT", "OK"),
        c9_1_3=("OK", "UNCLEAN"),
        c9_1_4=("NON-STRICT", "WRONG CODE"),
        c7_1_6=("INFORMATIONAL", "INFORMATIONAL"),
        c10_1_1=("UNIMPLEMENTED", "OK"),
    )
    counted = tally(["9.1.1", "9.1.2", "9.1.3", "9.1.4", "9.1.5", "10.1.1", "7.1.6"], found)
    assert counted == {
        7: Tally(cases=1, informational=1, milliseconds=1500),
        9: Tally(cases=5, ok=1, non_strict=1, failed=2, missing=1, milliseconds=6000),
        10: Tally(cases=1, failed=1, milliseconds=1500),
    }
    assert list(counted) == [7, 9, 10]
    assert total(counted.values()) == Tally(
        cases=7, ok=1, non_strict=1, informational=1, failed=3, missing=1, milliseconds=9000
    )


def test_read_index() -> None:
    found = {
        "behavior": "OK",
        "behaviorClose": "UNCLEAN",
        "duration": 12,
        "remoteCloseCode": None,
        "reportfile": "echod_case_1_1_1.json",
    }
    assert read_index({"echod": {"1.1.1": found}}) == {
        "1.1.1": Result("1.1.1", "OK", "UNCLEAN", milliseconds=12, close_code=None, reportfile="echod_case_1_1_1.json")
    }
    assert read_index({}) == {}


def test_read_index_takes_no_half_result() -> None:
    with pytest.raises(KeyError):
        read_index({"echod": {"1.1.1": {"behavior": "OK"}}})


@pytest.mark.parametrize("index", [[], {"echod": {}, "other": {}}])
def test_read_index_takes_one_agent_only(index: object) -> None:
    with pytest.raises(ValueError, match="not that of one agent"):
        read_index(index)

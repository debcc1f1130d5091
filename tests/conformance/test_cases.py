"""The selection of cases, and their distribution among daemons."""

from __future__ import annotations

import pytest

from .cases import CASE_COUNT, SECTION_COUNTS, SelectionError, count_faults, section_of, select, share_out

LISTED = ["1.1.1", "1.1.2", "1.2.1", "2.1", "2.2", "2.10", "10.1.1", "12.1.1", "12.1.2", "12.2.1", "13.1.1"]
COMPLETE = [f"{section}.{number}" for section, count in SECTION_COUNTS.items() for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("selection", "cases"),
    [
        ("all", LISTED),
        ("1", ["1.1.1", "1.1.2", "1.2.1"]),
        ("1-10", ["1.1.1", "1.1.2", "1.2.1", "2.1", "2.2", "2.10", "10.1.1"]),
        ("2.1", ["2.1"]),
        ("1.1", ["1.1.1", "1.1.2"]),
        ("12.*,13.*", ["12.1.1", "12.1.2", "12.2.1", "13.1.1"]),
        ("1.*.1", ["1.1.1", "1.2.1"]),
        ("2.[1-2],12.*.[2-9]", ["2.1", "2.2", "12.1.2"]),
        (" 2.10 , 1.1.2, 2.*", ["1.1.2", "2.1", "2.2", "2.10"]),
    ],
)
def test_select(selection: str, cases: list[str]) -> None:
    assert select(LISTED, selection) == cases


@pytest.mark.parametrize("selection", ["", "11", "5-3", "1.1.3", "1,", "2.3*,1"])
def test_an_item_without_cases_is_an_error(selection: str) -> None:
    with pytest.raises(SelectionError):
        select(LISTED, selection)


@pytest.mark.parametrize("selection", ["ALL", "one", "1:10", "[12].*"])
def test_an_invalid_item_is_an_error(selection: str) -> None:
    with pytest.raises(SelectionError, match="is not"):
        select(LISTED, selection)


def test_units_hold_each_case_once() -> None:
    units = share_out(reversed(LISTED))
    assert [unit.name for unit in units] == ["short", "12.1", "12.2", "13.1"]
    assert units[0].cases == ("1.1.1", "1.1.2", "1.2.1", "2.1", "2.2", "2.10", "10.1.1")
    assert sorted(case for unit in units for case in unit.cases) == sorted(LISTED)


def test_the_recorded_counts_are_of_all_cases() -> None:
    assert sum(SECTION_COUNTS.values()) == CASE_COUNT == len(COMPLETE)
    assert count_faults(COMPLETE) == []


def test_a_suite_with_other_cases_is_reported() -> None:
    lacking = [case for case in COMPLETE if section_of(case) != 13 and case != "1.16"]
    assert count_faults([*lacking, "14.1"]) == [
        "the suite lists 15 cases in section 1, 16 are recorded",
        "the suite lists 0 cases in section 13, 126 are recorded",
        "the suite lists 1 cases in section 14, 0 are recorded",
    ]

"""The suite's cases: how a person selects them, and how they are distributed among runs.

Knows case numbers ("9.7.1" is case 1 of subsection 9.7 of section 9). Pure: no files, no processes.
Must never know how a case is run, or its result.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# The number of cases in each section of autobahntestsuite 25.10.1, by its own list. Without this check a suite that
# lists fewer cases (another version, a broken install) would pass because it tests less.
SECTION_COUNTS = {1: 16, 2: 11, 3: 7, 4: 10, 5: 20, 6: 145, 7: 37, 9: 54, 10: 1, 12: 90, 13: 126}
CASE_COUNT = 517

# Each subsection of these (compression: 1,000 messages a case) takes about as long as all other sections together.
LONG_SECTIONS = frozenset({12, 13})


class SelectionError(ValueError):
    """A selection that can't be parsed or that matches no case. The text is for the person who typed the selection."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Cases that run one after another against one daemon."""

    name: str
    cases: tuple[str, ...]


def section_of(case: str) -> int:
    """Return the section of a case: 12 for "12.1.3"."""
    return int(case.partition(".")[0])


def case_order(case: str) -> tuple[int, ...]:
    """Return the numbers of a case as a sort key, so that 2.10 follows 2.9."""
    return tuple(int(number) for number in case.split("."))


def count_faults(listed: Iterable[str]) -> list[str]:
    """Return one line for each section of which the suite lists more or fewer cases than recorded."""
    counted = Counter(section_of(case) for case in listed)
    return [
        f"the suite lists {counted[section]} cases in section {section}, {SECTION_COUNTS.get(section, 0)} are recorded"
        for section in sorted(SECTION_COUNTS.keys() | counted.keys())
        if counted[section] != SECTION_COUNTS.get(section, 0)
    ]


def select(listed: Sequence[str], selection: str) -> list[str]:
    """Return the listed cases that a selection asks for, in order.

    A selection is a list of items, separated by commas: ``all``, a section (``7``), a range of sections (``1-10``), a
    subsection (``12.1``), a case (``7.1.6``) or a pattern of cases (``9.*.1``, ``13.*.[1-9]``).
    An item that matches no case is an error, so that a typing error can't pass as success.
    """
    chosen: set[str] = set()
    for item in selection.split(","):
        matching = [case for case in listed if _answers(case, item.strip())]
        if not matching:
            raise SelectionError(f"{item.strip()!r} matches no case")
        chosen.update(matching)
    return sorted(chosen, key=case_order)


def _answers(case: str, item: str) -> bool:
    """Tell whether one item of a selection matches a case."""
    if item == "all":
        return True
    sections = re.fullmatch(r"(\d+)(?:-(\d+))?", item)
    if sections:
        first = int(sections[1])
        return first <= section_of(case) <= int(sections[2] or first)
    if not re.fullmatch(r"(?:[\d.*]|\[\d-\d\])+", item):
        raise SelectionError(
            f"{item!r} is not 'all', a section, a range of sections, a subsection, a case or a pattern of cases"
        )
    return case.startswith(f"{item}.") or fnmatchcase(case, item)


def share_out(cases: Iterable[str]) -> list[Unit]:
    """Distribute cases among units that can run in parallel.

    All short sections form one unit, and each subsection of a long section forms another. These units are small enough
    to end at nearly the same time, and so few that the start of their daemons costs almost nothing.
    """
    units: dict[str, list[str]] = {}
    for case in sorted(cases, key=case_order):
        name = ".".join(case.split(".")[:2]) if section_of(case) in LONG_SECTIONS else "short"
        units.setdefault(name, []).append(case)
    return [Unit(name, tuple(members)) for name, members in units.items()]

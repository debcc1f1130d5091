"""The required result of each case, and whether the case had it.

Knows the suite's words (OK, NON-STRICT, INFORMATIONAL, …) and the shape of its JSON. Pure: data in, data out.
Must never know how the cases were run, and must never soften a result: each case has exactly one right result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .cases import case_order, section_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

OK = "OK"
NON_STRICT = "NON-STRICT"
INFORMATIONAL = "INFORMATIONAL"
FAILED = "FAILED"
MISSING = "missing"

# The suite does not judge these cases. It reports them as INFORMATIONAL whatever the peer does. Any other word means
# that a different suite ran, or that the case did not finish.
INFORMATIONAL_CASES = {
    "7.1.6": "a ping after the Close frame of a 256 KiB message: RFC 6455 leaves the order of echo and close open",
    "7.13.1": "close code 5000: above all codes that RFC 6455, section 7.4.2, defines",
    "7.13.2": "close code 65535: as 7.13.1",
}


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case, in the suite's words."""

    case: str
    behavior: str
    behavior_close: str
    milliseconds: int = 0
    close_code: int | None = None
    reportfile: str = ""

    @property
    def kind(self) -> str:
        """The word under which a summary counts this result: the worse of behaviour and close."""
        both = {self.behavior, self.behavior_close}
        if len(both) == 1 and both <= {OK, INFORMATIONAL}:
            return self.behavior
        return NON_STRICT if both <= {OK, INFORMATIONAL, NON_STRICT} and NON_STRICT in both else FAILED


@dataclass(frozen=True, slots=True)
class Failure:
    """A case whose result was not the required one, with the reason."""

    case: str
    reason: str


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of one section, or of all sections."""

    cases: int = 0
    ok: int = 0
    non_strict: int = 0
    informational: int = 0
    failed: int = 0
    missing: int = 0
    milliseconds: int = 0


def read_index(index: object) -> dict[str, Result]:
    """Return the results in an ``index.json`` of the suite, which maps an agent to its cases and each case to a result.

    Any other content raises ValueError: a report that can't be parsed must not count as one without failures.
    """
    if not isinstance(index, dict) or len(index) > 1:
        raise ValueError("the suite's index is not that of one agent")
    return {case: _read_result(case, found) for cases in index.values() for case, found in cases.items()}


def _read_result(case: str, found: Mapping[str, object]) -> Result:
    code, duration = found["remoteCloseCode"], found["duration"]
    return Result(
        case=case,
        behavior=str(found["behavior"]),
        behavior_close=str(found["behaviorClose"]),
        milliseconds=duration if isinstance(duration, int) else 0,
        close_code=code if isinstance(code, int) else None,
        reportfile=str(found["reportfile"]),
    )


def expected_kind(case: str) -> str:
    """Return the required word for the behaviour and the close of a case."""
    return INFORMATIONAL if case in INFORMATIONAL_CASES else OK


def judge(expected: Iterable[str], results: Mapping[str, Result]) -> list[Failure]:
    """Return a failure for each case with a wrong result, without a result, or that was not asked for."""
    wanted = set(expected)
    failures = [_fault(case, results.get(case)) for case in wanted]
    failures += [Failure(case, "in the report but not asked for") for case in results.keys() - wanted]
    return sorted((failure for failure in failures if failure), key=lambda failure: case_order(failure.case))


def _fault(case: str, result: Result | None) -> Failure | None:
    if result is None:
        return Failure(case, "missing from the report")
    must = expected_kind(case)
    if (result.behavior, result.behavior_close) == (must, must):
        return None
    return Failure(case, f"behavior {result.behavior}, behaviorClose {result.behavior_close}; both must be {must}")


def tally(expected: Iterable[str], results: Mapping[str, Result]) -> dict[int, Tally]:
    """Return the counts of each section with expected cases."""
    sections: dict[int, Tally] = {}
    for case in sorted(expected, key=case_order):
        section = section_of(case)
        sections[section] = _count(sections.get(section, Tally()), results.get(case))
    return sections


def _count(counts: Tally, result: Result | None) -> Tally:
    kind = result.kind if result else MISSING
    return replace(
        counts,
        cases=counts.cases + 1,
        ok=counts.ok + (kind == OK),
        non_strict=counts.non_strict + (kind == NON_STRICT),
        informational=counts.informational + (kind == INFORMATIONAL),
        failed=counts.failed + (kind == FAILED),
        missing=counts.missing + (kind == MISSING),
        milliseconds=counts.milliseconds + (result.milliseconds if result else 0),
    )


def total(sections: Iterable[Tally]) -> Tally:
    """Return the sum of tallies."""
    summed = Tally()
    for counts in sections:
        summed = Tally(
            cases=summed.cases + counts.cases,
            ok=summed.ok + counts.ok,
            non_strict=summed.non_strict + counts.non_strict,
            informational=summed.informational + counts.informational,
            failed=summed.failed + counts.failed,
            missing=summed.missing + counts.missing,
            milliseconds=summed.milliseconds + counts.milliseconds,
        )
    return summed

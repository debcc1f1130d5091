"""The gate that counts instructions: two runs count the same, and a higher count fails. (The gate itself takes a
minute, so it is a command and not a test.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lane.native import instructions
from tests.tools import needed

if TYPE_CHECKING:
    from pathlib import Path


def test_above_the_margin() -> None:
    """Each case above the margin is named with its figures. A count within the margin is no error, nor a lower one."""
    recorded = {"avx2 a": 1000, "avx2 b": 1000, "avx2 c": 1000}
    assert instructions.compare({"avx2 a": 1030, "avx2 b": 1000, "avx2 c": 10}, recorded) == []
    (wrong,) = instructions.compare({"avx2 a": 1000, "avx2 b": 1031, "avx2 c": 1000}, recorded)
    assert wrong == "avx2 b: 1031 instructions, +3.1% of 1000 (margin 3%)"


def test_other_cases_than_recorded() -> None:
    """A case without a record is an error, and so is a record without a case."""
    (wrong,) = instructions.compare({"avx2 a": 1, "avx2 new": 1}, {"avx2 a": 1, "avx2 gone": 1})
    assert "avx2 gone, avx2 new" in wrong


@pytest.mark.usefixtures("native")
def test_the_same_count_twice(tmp_path: Path) -> None:
    """Counts are the same on this machine now. For frames too short for a kernel, all kernels have the same count."""
    needed("valgrind")
    program = instructions.compiled(needed("cc", "gcc"), tmp_path)
    (case,) = [case for case in instructions.cases(program) if case.name == "16B-text-32"]
    counts = {instructions.count(program, kernel, case) for kernel in (*instructions.KERNELS, "scalar")}
    assert len(counts) == 1
    with pytest.raises(instructions.GateError, match="no such case"):
        instructions.count(program, "scalar", instructions.Case("unheard-of", 1, 1))

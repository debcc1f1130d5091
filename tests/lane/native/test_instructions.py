"""The gate that counts instructions: it counts the same twice, and fails on more. (The gate itself is a command, as it
takes a minute.)"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lane.native import instructions
from tests.tools import needed

if TYPE_CHECKING:
    from pathlib import Path


def test_above_the_margin() -> None:
    """Each case that costs more is named with its figures; within the margin, and below it, all is well."""
    recorded = {"avx2 a": 1000, "avx2 b": 1000, "avx2 c": 1000}
    assert instructions.compare({"avx2 a": 1030, "avx2 b": 1000, "avx2 c": 10}, recorded) == []
    (wrong,) = instructions.compare({"avx2 a": 1000, "avx2 b": 1031, "avx2 c": 1000}, recorded)
    assert wrong == "avx2 b: 1031 instructions, +3.1% of 1000 (margin 3%)"


def test_other_cases_than_recorded() -> None:
    """A case that nobody recorded is not passed over, nor is one that is gone."""
    (wrong,) = instructions.compare({"avx2 a": 1, "avx2 new": 1}, {"avx2 a": 1, "avx2 gone": 1})
    assert "avx2 gone, avx2 new" in wrong


@pytest.mark.usefixtures("native")
def test_the_same_count_twice(tmp_path: Path) -> None:
    """On this machine now, and every kernel the same for frames too short for any of them."""
    needed("valgrind")
    program = instructions.compiled(needed("cc", "gcc"), tmp_path)
    (case,) = [case for case in instructions.cases(program) if case.name == "16B-text-32"]
    counts = {instructions.count(program, kernel, case) for kernel in (*instructions.KERNELS, "scalar")}
    assert len(counts) == 1
    with pytest.raises(instructions.GateError, match="no such case"):
        instructions.count(program, "scalar", instructions.Case("unheard-of", 1, 1))

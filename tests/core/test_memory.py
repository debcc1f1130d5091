"""Memory that malloc keeps can be given back. If the C library can't do that, nothing happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from echod.core import memory

PIECES, SIZE = 2000, 16_384


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_holes_are_given_back() -> None:
    pieces = [b"x" * SIZE for _ in range(PIECES)]
    kept = pieces[-1]
    before = resident()
    del pieces
    memory.give_back()
    if memory.can_give_back:
        assert resident() < before - PIECES * SIZE // 2
    assert len(kept) == SIZE


def test_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_trim", None)
    memory.give_back()

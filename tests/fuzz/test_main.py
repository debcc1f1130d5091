"""`python -m tests.fuzz`: the same seed draws the same streams again."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz import __main__
from tests.fuzz.streams import streams


def drawn(monkeypatch: pytest.MonkeyPatch, *words: str) -> list[bytes]:
    """Return the streams that a run draws, which lasts for one batch. Frames of HTTP/2 are not counted."""
    found: list[bytes] = []

    def note(data: st.DataObject) -> None:
        found.append(data.draw(streams()))

    monkeypatch.setattr(__main__, "any_octets_cut_anywhere", note)
    monkeypatch.setattr(__main__, "test_whatever_frames_come", given(st.none())(lambda _: None))
    monkeypatch.setattr(sys, "argv", ["fuzz", "--runs", "1", *words])
    __main__.main()
    return found


def test_the_same_seed_draws_the_same_streams(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = drawn(monkeypatch)
    (seed,) = re.findall(r"--seed (\d+)$", capsys.readouterr().out, re.MULTILINE)
    assert len(set(first)) > 100
    assert drawn(monkeypatch, "--seed", seed) == first
    assert drawn(monkeypatch, "--seed", f"{seed}1") != first


def test_each_batch_draws_other_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    two = drawn(monkeypatch, "--seed", "3", "--runs", str(2 * __main__.BATCH + 1))
    assert two[: len(two) // 2] != two[len(two) // 2 :]

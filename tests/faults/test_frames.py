"""Messages in frames: the fragments of every size, and the three forms of a length."""

from __future__ import annotations

import pytest

from echod.faults.frames import STEP_FRAMES, header, in_frames
from tests.frames import server_frame, split


@pytest.mark.parametrize("length", [0, 1, 125, 126, 127, 65535, 65536, 70000])
def test_a_header(length: int) -> None:
    assert header(0x82, length) == server_frame(2, bytes(length))[: -length or None]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8])
def test_fragments(size: int) -> None:
    frames, rest = split(b"".join(in_frames(b"teatime", size, 1, 4)))
    assert not rest
    assert b"".join(frame.payload for frame in frames) == b"teatime"
    assert [frame.opcode for frame in frames] == [1] + [0] * (len(frames) - 1)
    assert [frame.rsv for frame in frames] == [4] + [0] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert max(len(frame.payload) for frame in frames) == min(size, 7)


def test_many_fragments_are_made_in_steps() -> None:
    steps = list(in_frames(bytes(3 * STEP_FRAMES), 1, 2, 0))
    assert [len(split(step)[0]) for step in steps] == [STEP_FRAMES] * 3

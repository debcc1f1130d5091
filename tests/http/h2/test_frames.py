"""Frames, whole and cut anywhere, as hyperframe writes them."""

from __future__ import annotations

import pytest
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, PingFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from echod.http.h2 import frames
from echod.http.h2.frames import FrameError, FrameReader

SOME = [PingFrame(0, b"12345678"), DataFrame(1, b"x" * 300), DataFrame(3, b"", flags=["END_STREAM"]), SettingsFrame(0)]
OCTETS = frames.PREFACE + b"".join(frame.serialize() for frame in SOME)


def read(octets: bytes, sizes: list[int], most: int = 16384) -> list[frames.Frame]:
    """Return the frames in `octets`, which come in pieces of these sizes, and then the rest."""
    reader, found = FrameReader(most), []
    while octets:
        size = sizes.pop() if sizes else len(octets)
        reader.feed(octets[:size])
        octets = octets[size:]
        while (frame := reader.next()) is not None:
            found.append(frame)
    assert not reader.held
    return found


@given(st.lists(st.integers(1, 50)))
def test_frames_come_whole_however_they_are_cut(sizes: list[int]) -> None:
    found = read(OCTETS, sizes)
    assert [frame.octets for frame in found] == [frame.serialize() for frame in SOME]
    assert [(frame.kind, frame.stream, frame.payload_size) for frame in found] == [
        (frames.PING, 0, 8),
        (frames.DATA, 1, 300),
        (frames.DATA, 3, 0),
        (frames.SETTINGS, 0, 0),
    ]
    assert [frame.flags for frame in found] == [0, 0, frames.END_STREAM, 0]


def test_the_reserved_bit_is_ignored() -> None:
    assert read(frames.PREFACE + b"\0\0\0\0\0\x80\0\0\7", [])[0].stream == 7


def test_a_frame_may_be_as_long_as_was_announced() -> None:
    octets = frames.PREFACE + DataFrame(1, b"x" * 100).serialize()
    assert read(octets, [], 100)[0].payload_size == 100
    with pytest.raises(FrameError, match="more than 99 bytes") as error:
        read(octets, [], 99)
    assert error.value.is_too_long


@pytest.mark.parametrize("size", [1, 20, 30])
def test_another_preface(size: int) -> None:
    octets = frames.PREFACE.replace(b"SM", b"XX") + bytes(20)
    with pytest.raises(FrameError, match="preface") as error:
        read(octets, [size] * 10)
    assert not error.value.is_too_long


def test_how_much_of_a_frame_is_missing() -> None:
    reader = FrameReader(100)
    octets = frames.PREFACE + b"\0\0\x08\6\0\0\0\0\0" + bytes(8)
    missing = []
    for octet in octets:
        reader.feed(bytes([octet]))
        if reader.next() is None:
            missing.append(reader.missing)
    assert missing == [0] * (len(frames.PREFACE) + 8) + [8, 7, 6, 5, 4, 3, 2, 1]
    assert reader.missing == 0


def test_goaway() -> None:
    octets = frames.goaway(5, 11, "be calm")
    frame, size = Frame.parse_frame_header(memoryview(octets[:9]))
    frame.parse_body(memoryview(octets[9 : 9 + size]))
    assert isinstance(frame, GoAwayFrame)
    assert (frame.last_stream_id, frame.error_code, frame.additional_data) == (5, 11, b"be calm")


def test_settings() -> None:
    octets = frames.settings({3: 100, 8: 1})
    frame, size = Frame.parse_frame_header(memoryview(octets[:9]))
    frame.parse_body(memoryview(octets[9 : 9 + size]))
    assert isinstance(frame, SettingsFrame)
    assert frame.settings == {3: 100, 8: 1}

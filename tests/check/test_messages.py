"""The messages of a check: made, and compared."""

from __future__ import annotations

import pytest

from echod.check.messages import difference, make_text


def test_texts_are_utf_8_of_all_lengths_and_of_the_exact_size() -> None:
    for size in (*range(1, 40), 1000, 70_000):
        text = make_text(size)
        assert len(text) == size
        text.decode()
    lengths = {len(char.encode()) for char in make_text(1000).decode()}
    assert lengths in ({1, 2, 3, 4}, {2, 3, 4}), "ASCII is rare there"
    assert make_text(1000) != make_text(1000)


@pytest.mark.parametrize("size", [1, 100, 65536, 65537, 200_000])
def test_the_first_byte_that_differs(size: int) -> None:
    sent = bytes(size)
    assert difference(sent, True, sent, True) == ""
    for at in {0, size // 2, size - 1}:
        got = sent[:at] + b"\xff" + sent[at + 1 :]
        assert difference(sent, True, got, True) == f"byte {at}: 00 sent, ff came back"
        assert difference(sent, True, sent[:at], True) == f"length: {size} bytes sent, {at} came back"
    longer = difference(sent, False, sent + b"\x00", True)
    assert longer == f"type: text sent, binary came back; length: {size} bytes sent, {size + 1} came back"

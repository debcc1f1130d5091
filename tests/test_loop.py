"""The tests' own loop."""

from __future__ import annotations

import time

import pytest

from tests.loop import Loop


def test_only_the_first_wait_in_vain_takes_its_time() -> None:
    with Loop() as loop:
        with pytest.raises(AssertionError, match="never became true"):
            loop.until(lambda: False, 0.01)
        began = time.monotonic()
        with pytest.raises(AssertionError, match="never became true"):
            loop.until(lambda: False)
        assert time.monotonic() - began < 30

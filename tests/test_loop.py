"""The tests' own loop."""

from __future__ import annotations

import time

import pytest

from tests.loop import Loop


def test_only_the_first_failed_wait_takes_the_full_time() -> None:
    with Loop() as loop:
        with pytest.raises(AssertionError, match="never became true"):
            loop.until(lambda: False, 0.01)
        began = time.monotonic()
        with pytest.raises(AssertionError, match="never became true"):
            loop.until(lambda: False)
        assert time.monotonic() - began < 30

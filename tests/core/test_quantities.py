"""Sizes and durations: each is written in the form in which it is read."""

from __future__ import annotations

import pytest

from echod.core.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("octets", "text"),
    [(1000, "1000"), (1024, "1KiB"), (1536 * 1024, "1536KiB"), (16 * 2**20, "16MiB"), (2**30, "1GiB")],
)
def test_sizes(octets: int, text: str) -> None:
    assert format_size(octets) == text
    assert parse_size(text) == octets


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (5, "5s"), (1.5, "1500ms"), (60, "1m"), (90, "90s")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds

"""Settings: how sizes and durations are written, as the command line takes them."""

from __future__ import annotations

import pytest

from echod.options import parse_size
from echod.settings import Settings, format_duration, format_size, parse_duration


@pytest.mark.parametrize(
    ("octets", "text"), [(1000, "1000"), (1024, "1KiB"), (1536 * 1024, "1536KiB"), (16 * 2**20, "16MiB"), (2**30, "1GiB")]
)
def test_sizes(octets: int, text: str) -> None:
    assert format_size(octets) == text
    assert parse_size(text) == octets


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (0.25, "250ms"), (5, "5s"), (1.5, "1500ms"), (60, "1m"), (90, "90s")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
    assert parse_duration(text) == seconds


def test_shares_add_up_to_the_whole() -> None:
    settings = Settings(workers=3, max_connections=11, max_buffered=3 * 2**20)
    shares = [settings.share(index) for index in range(3)]
    assert [share.max_connections for share in shares] == [4, 4, 3]
    assert {share.max_buffered for share in shares} == {2**20}
    assert {share.message_limit for share in shares} == {2**19}
    assert Settings(workers=2).share(1).max_connections is None

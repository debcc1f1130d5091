"""Sizes, durations and counts as a person writes them on the command line and in a URL: `16MiB`, `250ms`.

Sizes are in bytes, durations in seconds. Knows their units. Must never know what a value is for, or which values are
allowed for that.
"""

from __future__ import annotations

import re

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

MAX_SIZE = 1024 * GIB
"""A larger size is surely a typing error."""

MAX_DURATION = 7 * 24 * 3600.0
"""A longer duration is surely a typing error."""

_BYTES = {"GiB": GIB, "MiB": MIB, "KiB": KIB, "": 1}
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "": 1.0}

_SIZE = re.compile(r"([0-9]+)(KiB|MiB|GiB|)")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|)")


def parse_size(text: str) -> int:
    """Return in bytes a size such as `64KiB`, `16MiB`, `1GiB` or `1000`. Raises `ValueError`."""
    match = _SIZE.fullmatch(text)
    size = int(match[1]) * _BYTES[match[2]] if match else 0
    if not 1 <= size <= MAX_SIZE:
        raise ValueError("is not a size, such as 1000, 64KiB, 16MiB or 1GiB")
    return size


def format_size(octets: int) -> str:
    """Write a size: `16MiB`, `1536KiB`, `1000`."""
    name = next(name for name, unit in _BYTES.items() if octets % unit == 0) if octets else ""
    return f"{octets // _BYTES[name]}{name}"


def parse_duration(text: str) -> float:
    """Return in seconds a duration such as `250ms`, `5s`, `2m` or `5`. Raises `ValueError`."""
    match = _DURATION.fullmatch(text)
    seconds = float(match[1]) * _SECONDS[match[2]] if match else -1.0
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError("is not a duration, such as 250ms, 5s or 2m")
    return seconds


def parse_positive_duration(text: str) -> float:
    """Return in seconds a duration that must not be 0. Raises `ValueError`."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError("must be more than 0")
    return seconds


def format_duration(seconds: float) -> str:
    """Write a duration: `5s`, `2m`, `250ms`."""
    milliseconds = round(seconds * 1000)
    if milliseconds and milliseconds % 60_000 == 0:
        return f"{milliseconds // 60_000}m"
    return f"{milliseconds // 1000}s" if milliseconds % 1000 == 0 else f"{milliseconds}ms"


def parse_count(text: str) -> int:
    """Return a whole number of at least 1. Raises `ValueError`."""
    if not re.fullmatch("[0-9]{1,9}", text) or not int(text):
        raise ValueError("is not a whole number of at least 1")
    return int(text)

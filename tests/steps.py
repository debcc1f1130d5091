"""Runs work that is divided into steps to its end."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def finish(steps: Generator[bytes, None, Result]) -> Result:
    """Run all steps, and return their result. No step may give bytes to send."""
    while True:
        try:
            assert next(steps) == b""
        except StopIteration as end:
            result: Result = end.value
            return result

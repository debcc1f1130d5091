"""Work that is done in steps, done at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def finish(steps: Generator[bytes, None, Result]) -> Result:
    """Take all steps, none of which may give octets to be sent; return what they come to."""
    while True:
        try:
            assert next(steps) == b""
        except StopIteration as end:
            result: Result = end.value
            return result

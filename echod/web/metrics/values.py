"""The numbers of metrics, and how the numbers of several processes are added up and passed on.

Pure. Must never know which metrics there are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple


class Observed(NamedTuple):
    """The numbers of a histogram."""

    places: Mapping[float, int]
    """Observations by the upper bound of their bucket. Each observation is counted in one bucket."""
    total: float
    """The sum of all that was observed."""

    def __add__(self, other: object) -> Observed:
        """Add up two histograms with the same buckets."""
        assert isinstance(other, Observed)
        return Observed(
            {bound: count + other.places[bound] for bound, count in self.places.items()}, self.total + other.total
        )


Value = float | Observed

Values = dict[tuple[str, ...], Value]
"""The numbers of one metric, by the values of its labels."""

AllValues = dict[str, Values]
"""The numbers of several metrics, by the metric's name."""


def add_up(parts: Iterable[Values], put_together: Callable[[Any, Any], Any] = operator.add) -> Values:
    """Return the numbers of one metric for several daemons together. `put_together` makes one number of two that have
    the same labels."""
    total: Values = {}
    for values in parts:
        for labels, value in values.items():
            total[labels] = put_together(total[labels], value) if labels in total else value
    return total


def pack(values: AllValues) -> dict[str, Any]:
    """Return `values` in a form that JSON can hold."""

    def packed(value: Value) -> Any:
        return [list(value.places.items()), value.total] if isinstance(value, Observed) else value

    return {name: [[labels, packed(value)] for labels, value in numbers.items()] for name, numbers in values.items()}


def unpack(packed: Mapping[str, Any]) -> AllValues:
    """Return the values that `pack` was given."""

    def value(packed: Any) -> Value:
        return Observed(dict(packed[0]), packed[1]) if isinstance(packed, list) else packed

    return {name: {tuple(labels): value(number) for labels, number in numbers} for name, numbers in packed.items()}

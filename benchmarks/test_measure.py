"""What is measured fits the machine."""

from __future__ import annotations

import pytest

from benchmarks.columns import COLUMNS, Column
from benchmarks.measure import SPARE_FILES, fitting


def named(key: str) -> Column:
    """Return a column of the benchmark."""
    return next(column for column in COLUMNS if column.key == key)


@pytest.mark.parametrize(
    ("key", "files", "connections"),
    [
        ("idle-50000", 65536, 50_000),
        ("idle-50000", 50_000 + SPARE_FILES, 50_000),
        ("idle-50000", 20_000, 19_800),
        ("storm", 20_000, 9_800),
        ("pinged", 1_024, 800),
        ("idle-50000", SPARE_FILES + 99, None),
        ("grow-10000", 20_000, 10_000),
        ("grow-10000", 10_000, None),
        ("beside-idle", 10_000, None),
    ],
)
def test_only_rows_whose_figures_are_for_each_connection_get_fewer(
    key: str, files: int, connections: int | None
) -> None:
    fit = fitting(named(key), files)
    assert (fit and fit.connections) == connections
    assert fit is None or fit.files + SPARE_FILES <= files

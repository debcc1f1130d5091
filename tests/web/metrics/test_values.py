"""The numbers of metrics: added up, and passed on from process to process."""

from __future__ import annotations

import json

from echod.web.metrics.values import AllValues, Observed, add_up, pack, unpack


def test_numbers_with_the_same_labels_add_up() -> None:
    assert add_up([{("a",): 1, ("b",): 2}, {}, {("b",): 3, ("c",): 4}]) == {("a",): 1, ("b",): 5, ("c",): 4}
    assert add_up([{("a",): 3}, {("a",): 2}], min) == {("a",): 2}


def test_histograms_add_up_bucket_by_bucket() -> None:
    total = add_up([{(): Observed({1.0: 2, float("inf"): 3}, 12.5)}, {(): Observed({1.0: 1, float("inf"): 0}, 0.5)}])
    assert total == {(): Observed({1.0: 3, float("inf"): 3}, 13.0)}


def test_numbers_go_through_json() -> None:
    values: AllValues = {
        "plain": {("a", "b"): 1, (): 2.5},
        "histogram": {("a",): Observed({0.5: 1, float("inf"): 2}, 7.0)},
        "nothing": {},
    }
    assert unpack(json.loads(json.dumps(pack(values)))) == values

"""The numbers of all metrics: of one daemon, and of several together.

Must never know where a number comes from: `declarations.py` has a function for each metric.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from echod.web.metrics.declarations import ALIKE, METRICS
from echod.web.metrics.values import AllValues, add_up
from echod.websocket.factory import EchoFactory


def read_all(factory: EchoFactory) -> AllValues:
    """Return the numbers of every metric."""
    return {metric.name: metric.read(factory) for metric in METRICS}


def read_counts(factory: EchoFactory) -> AllValues:
    """Return the numbers of the metrics that only grow. They must outlive the process that counted them."""
    return {metric.name: metric.read(factory) for metric in METRICS if metric.kind != "gauge"}


def add_up_all(parts: Sequence[AllValues]) -> AllValues:
    """Return the numbers of several daemons together. Any of them may lack some metrics."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {
        name: add_up((part.get(name, {}) for part in parts), min if name in ALIKE else operator.add) for name in names
    }

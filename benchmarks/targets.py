"""The table of figures that echod is to reach, and whether a run reached them.

Knows: the required ratios. Must never know: how figures are measured or shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.results import Results

Quantity = Literal["rate", "cpu", "KiB per connection"]


@dataclass(frozen=True)
class Target:
    """A limit for ``server``'s quantity in ``column``: an absolute one, or a multiple of ``against``'s quantity.
    ``at_most`` makes it an upper limit."""

    column: str
    bound: float
    against: str = ""
    server: str = "echod"
    quantity: Quantity = "rate"
    against_column: str = ""
    at_most: bool = False

    def value(self, results: Results) -> float | None:
        """Return the measured value, or None if a needed figure is missing."""
        mine = quantity_of(results, self.server, self.column, self.quantity)
        if not (self.against or self.against_column):
            return mine
        theirs = quantity_of(results, self.against or self.server, self.against_column or self.column, self.quantity)
        return mine / theirs if mine is not None and theirs else None

    def is_reached(self, results: Results) -> bool | None:
        """Tell whether the target was reached; None if a needed figure is missing."""
        value = self.value(results)
        if value is None:
            return None
        return value <= self.bound if self.at_most else value >= self.bound


def quantity_of(results: Results, server: str, column: str, quantity: Quantity) -> float | None:
    """Return the figure of a cell."""
    if quantity == "rate":
        return results.rate(server, column)
    if quantity == "cpu":
        return results.cpu(server, column)
    return results.kib_per_connection(server, column)


TARGETS = [
    Target("small", 1.25, "gorilla"),
    Target("small", 11, "autobahn"),
    Target("small", 1.1, "floor", quantity="cpu", at_most=True),
    Target("small-1k", 1.25, "gorilla"),
    Target("small-1k", 10, "autobahn"),
    Target("deep", 20, "gorilla"),
    Target("deep", 120, "autobahn"),
    Target("deep-1k", 12, "gorilla"),
    Target("deep-1k", 60, "autobahn"),
    Target("medium", 4, "gorilla"),
    Target("medium", 6, "autobahn"),
    Target("medium", 1.03, "floor", quantity="cpu", at_most=True),
    Target("large", 2.5, "gorilla"),
    Target("large", 15, "autobahn"),
    Target("large-text", 2, "gorilla"),
    Target("large-text", 15, "autobahn"),
    Target("beside-idle", 0.95, against_column="small"),
    Target("opens", 12_000),
    Target("opens", 1, "picows"),
    Target("opens", 1, "ws"),
    Target("opens", 0.9, "gorilla", quantity="cpu", at_most=True),
    Target("opens", 1.25, "floor", quantity="cpu", at_most=True),
    Target("opens-echo", 0.9, "gorilla", quantity="cpu", at_most=True),
    Target("opens-echo", 1.4, "floor", quantity="cpu", at_most=True),
    Target("opens-browser", 1.1, "gorilla", quantity="cpu", at_most=True),
    Target("pinged", 6, quantity="cpu", at_most=True),
    Target("deflate", 2, "gorilla"),
    Target("deflate", 8, "autobahn"),
    Target("deflate-64k", 2, "gorilla"),
    Target("deflate-64k", 6, "autobahn"),
    Target("takeover", 6, "autobahn"),
    Target("deflate", 1, "gorilla", server="echod-deflate"),
    Target("deflate", 4, "autobahn", server="echod-deflate"),
    Target("deflate-64k", 0.8, "gorilla", server="echod-deflate"),
    Target("deflate-64k", 2, "autobahn", server="echod-deflate"),
    Target("fragments", 1, "gorilla"),
    Target("fragments", 5, "autobahn"),
    Target("tls", 0.8, "gorilla"),
    Target("tls", 8, "autobahn"),
    Target("tls-64k", 1, "gorilla"),
    Target("tls-64k", 2.5, "autobahn"),
    Target("idle", 0.5, quantity="KiB per connection", at_most=True),
    Target("idle-deflate", 16, quantity="KiB per connection", at_most=True),
    Target("idle-takeover", 48, quantity="KiB per connection", at_most=True),
]

"""Parses metrics in Prometheus's text format.

Knows the format. Must never know the metrics, and must never import echod.
"""

from __future__ import annotations


def samples(text: str) -> dict[str, float]:
    """Return every sample by its name and labels, as the format writes them."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

"""`python -m tests.fuzz --seconds N` draws streams for N seconds. After a failure it shows the smallest failing stream,
and the exit status is 1."""

from __future__ import annotations

import argparse
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import any_octets_cut_anywhere

BATCH = 500
"""Streams between two checks of the time. Each batch begins with a different seed."""


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the daemon's handshake and frames.")
    parser.add_argument("--seconds", type=float, default=60)
    end = time.monotonic() + parser.parse_args().seconds
    batch = settings(max_examples=BATCH, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    draw = batch(given(st.data())(any_octets_cut_anywhere))
    count = 0
    while time.monotonic() < end:
        draw()
        count += BATCH
    print(f"{count} streams, no failure")


if __name__ == "__main__":
    main()

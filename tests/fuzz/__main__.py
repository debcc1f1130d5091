"""`python -m tests.fuzz --seconds N` draws streams for N seconds, in every second batch as frames of HTTP/2. After a
failure it shows the smallest failing stream, and the exit status is 1. `--seed` and `--runs` repeat what an earlier run
drew: each run prints its seed."""

from __future__ import annotations

import argparse
import random
import time

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.test_fuzz import any_octets_cut_anywhere
from tests.http.h2.test_session import test_whatever_frames_come

BATCH = 500
"""Streams between two checks of the time. Each batch begins with a different seed."""


def main() -> None:
    """Fuzz."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz the daemon's handshake, frames and HTTP/2."
    )
    parser.add_argument("--seconds", type=float, default=60, help="no new batch of streams begins after them (60)")
    parser.add_argument("--seed", type=int, help="what the random choices begin from; else a new one")
    parser.add_argument("--runs", type=int, metavar="N", help=f"no new batch of {BATCH} begins after N streams")
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"fuzz: the daemon for {options.seconds:g} s, --seed {seed}", flush=True)
    batch = settings(max_examples=BATCH, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    draws = [batch(given(st.data())(any_octets_cut_anywhere)), batch(test_whatever_frames_come)]
    count = 0
    while time.monotonic() < end and (options.runs is None or count < options.runs):
        hypothesis.seed(f"{seed} {count}")(draws[count // BATCH % len(draws)])()
        count += BATCH
    print(f"{count} streams, no failure")


if __name__ == "__main__":
    main()

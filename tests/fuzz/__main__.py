"""`python -m tests.fuzz --seconds N`: feed cases for so long; what does not hold is shown at its smallest, and the exit status is 1.

Knows Hypothesis and time.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from echod import native
from tests.fuzz.material import Case, cases
from tests.fuzz.subject import judge

BATCH = 500
"""Cases between two looks at the clock."""


def main() -> int:
    """Run."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="for how long (default: an hour)")
    parser.add_argument("--seed", type=int, help="that of the first batch, as a run that failed has told it")
    arguments = parser.parse_args()
    module = native.load(None)
    print(f"fuzzing {'with' if module else 'without'} the native module for {arguments.seconds:.0f} s", flush=True)
    deadline = time.monotonic() + arguments.seconds
    fed = 0

    def feed(case: Case) -> None:
        nonlocal fed
        fed += 1
        judge(case, module)

    number = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    phases = (Phase.generate, Phase.shrink)
    profile = settings(max_examples=BATCH, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    while time.monotonic() < deadline:
        try:
            seed(number)(profile(given(cases())(feed)))()
        except BaseException:
            print(f"after {fed} cases; again with --seed {number}", file=sys.stderr)
            raise
        number += 1
    print(f"{fed} cases passed, 0 failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

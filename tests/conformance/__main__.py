"""The command line: ``python -m tests.conformance [--sections …] [--report DIR] [--jobs N] [--tls] [--behind PROXY]
[--compression WORD] [--lane WORDS] [-- arguments…]``.

Exit status 0: every result is as required, or the suite is not available, which one line says; 1: a result is not as
required; 2: wrong usage.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import sys
import tempfile
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from tests.system.proxies import SAMPLES
from tests.tls import Certificate

from .cases import CASE_COUNT, SelectionError, count_faults, select, share_out
from .judge import judge, tally, total
from .report import clear, explain, failure_lines, gather, summary, write_page
from .run import AGENT, Setup, SuiteError, list_cases, run_units
from .suite import IMAGE, ROOT, Suite, SuiteMissingError, find_suite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# Variables that change how the daemon works. They are not on its command line, so the report must name them.
ENVIRONMENT = ("AUTOBAHN_USE_NVX", "ECHOD_NATIVE")
# About five times as long as all cases take on two cores, and less than the time limit of a CI run.
DEFAULT_SECONDS = 3600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run the Autobahn testsuite against daemons of its own and judge every case.",
        epilog="The suite comes from PyPI for a CPython 2.7 (`python2.7` or pyenv's), or from the container "
        f"image {IMAGE}.",
    )
    parser.add_argument(
        "--sections",
        default="all",
        help="all, or comma-separated sections and cases: 1-7,10, 12.*, 9.*.1, 13.*.[1-9] [all]",
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        default=ROOT / "reports" / "conformance",
        help="folder of the report [reports/conformance]",
    )
    parser.add_argument(
        "--jobs",
        type=positive_number,
        metavar="N",
        default=os.cpu_count() or 1,
        help="number of daemons at a time; one job keeps one core busy [one per core]",
    )
    parser.add_argument(
        "--timeout",
        type=positive_number,
        metavar="SECONDS",
        default=DEFAULT_SECONDS,
        help=f"time limit of the whole run, in seconds [{DEFAULT_SECONDS}]",
    )
    parser.add_argument("--tls", action="store_true", help="test over TLS, with a temporary certificate [without TLS]")
    parser.add_argument(
        "--behind",
        metavar="PROXY",
        choices=[name for name, sample in SAMPLES.items() if sample.ends_tls],
        help="test through a proxy with the sample in etc/, which ends TLS: %(choices)s [without a proxy]",
    )
    parser.add_argument(
        "--compression", metavar="WORD", help="value of the daemon's --compression [the daemon's default]"
    )
    parser.add_argument(
        "--lane",
        metavar="WORDS",
        help="what each daemon has to say at its start about the express lane, such as `pump and codec` [anything]",
    )
    parser.add_argument(
        "arguments", nargs="*", help="after `--`: options of echod; words before an `echod` are options of twistd"
    )
    return parser


def positive_number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def main(words: Sequence[str]) -> int:
    options = _parser().parse_args(words)
    try:
        suite = find_suite()
    except SuiteMissingError as missing:
        return _say_missing(str(missing))
    if options.behind and (why := SAMPLES[options.behind].missing()):
        return _say_missing(why)
    # A CI system ends a run with SIGTERM. Then run every `finally`, so that no daemon is left behind.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return asyncio.run(_run(suite, options))
    except SelectionError as error:
        print(f"--sections: {error}", file=sys.stderr)
        return 2
    except SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("conformance: interrupted", file=sys.stderr)
        return 1


def _say_missing(missing: str) -> int:
    """Report a missing suite or proxy: as skipped, or as a failure if the environment requires every tool."""
    required = os.environ.get("ECHOD_TEST_REQUIRE") == "all"
    print(f"conformance: {'failed' if required else 'skipped'}: {missing}", file=sys.stderr)
    return 1 if required else 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


async def _run(suite: Suite, options: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        listed = await list_cases(suite, Path(folder))
    expected = select(listed, options.sections)
    report: Path = options.report.absolute()
    report.mkdir(parents=True, exist_ok=True)
    clear(report, AGENT)
    arguments = [*options.arguments, *(["--compression", options.compression] if options.compression else [])]
    behind = ["--behind", options.behind] if options.behind else []
    head = _head(suite, ["--tls"] * options.tls + behind + arguments)
    print(f"{head}\n{len(expected)} of {CASE_COUNT} cases", flush=True)
    began = time.monotonic()
    proxy = SAMPLES[options.behind] if options.behind else None
    certificate = Certificate(report / "localhost.pem") if options.tls or proxy else None
    setup = Setup(suite, report, arguments, certificate, options.tls, proxy, options.lane)
    outcomes = await run_units(
        share_out(expected), setup, jobs=options.jobs, seconds=options.timeout, say=partial(print, flush=True)
    )
    results = gather(report, outcomes, AGENT)
    failures = {
        failure.case: explain(report, failure, results.get(failure.case)) for failure in judge(expected, results)
    }
    faults = count_faults(listed) + [
        f"unit {outcome.unit.name}: {fault}" for outcome in outcomes for fault in outcome.faults
    ]
    tallies = tally(expected, results)
    table = summary(tallies)
    page = write_page(report, "\n".join([head, "", table, "", *faults]), expected, results, failures)
    print("", table, "", *faults, *failure_lines(failures), sep="\n")
    print(f"report: {os.path.relpath(page)}, {time.monotonic() - began:.0f} s")
    # CI systems count by the last line. A fault outside the cases counts as one more failure.
    passed = total(tallies.values()).cases - sum(case in failures for case in expected)
    failed = len(failures) + len(faults)
    print(f"conformance: {passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _head(suite: Suite, words: Sequence[str]) -> str:
    """Return the date, the versions, and each difference from a default daemon: all that a quoted result needs."""
    versions = [f"{name} {_version(name)}" for name in ("echod", "autobahn", "Twisted")]
    switches = [f"{name}={os.environ[name]}" for name in ENVIRONMENT if name in os.environ]
    return ", ".join(
        [
            time.strftime("%Y-%m-%d", time.gmtime()),
            suite.description,
            *versions,
            f"Python {platform.python_version()}",
            *switches,
            *words,
        ]
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

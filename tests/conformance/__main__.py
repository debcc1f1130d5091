"""The command line: ``python -m tests.conformance [--sections …] [--report DIR] [--jobs N] [--tls] [--compression WORD]
[-- arguments…]``.

Exit status 0: all is as it must be (or the suite is not to be had, which a line says); 1: something is not; 2: usage.
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

from tests.tls import Certificate

from .cases import CASE_COUNT, SelectionError, count_faults, select, share_out
from .judge import judge, tally, total
from .report import clear, explain, failure_lines, gather, summary, write_page
from .run import AGENT, Setup, SuiteError, list_cases, run_units
from .suite import IMAGE, ROOT, Suite, SuiteMissingError, find_suite

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

# What changes how the daemon works without being on its command line, and so belongs into a report.
ENVIRONMENT = ("AUTOBAHN_USE_NVX", "ECHOD_NATIVE")
# Some five times what all cases take on two cores, and less than a CI run may last.
DEFAULT_SECONDS = 3600


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Run the Autobahn testsuite against a daemon of its own and judge every case.",
        epilog="The suite comes from PyPI for a CPython 2.7 (`python2.7` or pyenv's), or from the container "
        f"image {IMAGE}.",
    )
    parser.add_argument(
        "--sections", default="all", help="all, or sections and cases with commas between: 1-7,10, 12.*, 9.*.1 [all]"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        default=ROOT / "reports" / "conformance",
        help="folder for the report [reports/conformance]",
    )
    parser.add_argument(
        "--jobs",
        type=positive_number,
        metavar="N",
        default=os.cpu_count() or 1,
        help="daemons at a time; one job fills one core [one per core]",
    )
    parser.add_argument(
        "--timeout",
        type=positive_number,
        metavar="SECONDS",
        default=DEFAULT_SECONDS,
        help=f"seconds for the whole run [{DEFAULT_SECONDS}]",
    )
    parser.add_argument("--tls", action="store_true", help="over TLS, with a certificate made on the spot")
    parser.add_argument(
        "--compression", metavar="WORD", help="the daemon's --compression, whose words the daemon knows [its default]"
    )
    parser.add_argument(
        "arguments", nargs="*", help="after `--`: echod's options; words before an `echod` there are twistd's"
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
        return _say_missing(missing)
    # The way a CI system ends a run: go through every `finally`, so that no daemon stays behind.
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


def _say_missing(missing: SuiteMissingError) -> int:
    """Skip, unless the environment asks for every tool."""
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
    head = _head(suite, ["--tls"] * options.tls + arguments)
    print(f"{head}\n{len(expected)} of {CASE_COUNT} cases", flush=True)
    began = time.monotonic()
    setup = Setup(suite, report, arguments, Certificate(report / "localhost.pem").path if options.tls else None)
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
    # The last line is one that CI systems count: a fault beside the cases is a failure more.
    passed = total(tallies.values()).cases - sum(case in failures for case in expected)
    failed = len(failures) + len(faults)
    print(f"conformance: {passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def _head(suite: Suite, words: Sequence[str]) -> str:
    """Date, versions, and what is otherwise than a daemon with its defaults: what makes a result worth quoting."""
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

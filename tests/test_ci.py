"""`.ci/run`: a failed stage fails the whole run and is named, and no stage is left running after any end.

Knows how `.ci/run` runs stages, and replaces the stages. Must never know what the real stages are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.daemon import wait_until

RUN = Path(__file__).parent.parent / ".ci" / "run"

STAGES = """
[[ ! ${CI_TAKES_SIGINT-} ]] # a run within this one has to find out by itself
waits() { python3 -c '
import pathlib, time
try:
    pathlib.Path("begun").touch()
    time.sleep(300)
except KeyboardInterrupt:
    pathlib.Path("ended").touch()
'; }
until_there() { until [[ -e $1 ]]; do sleep 0.05; done; }
fails() { until_there begun; false; touch went-on; }
shows() { printf '<%s>' "$@"; touch shown; }
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Return a function that starts `.ci/run` with a plan of stages, as a background job of a shell."""
    text = RUN.read_text()
    script = tmp_path / ".ci" / "run"
    script.parent.mkdir()
    started: list[subprocess.Popen[str]] = []

    def start(plan: str) -> subprocess.Popen[str]:
        script.write_text(text[: text.index('alone "tools"')] + STAGES + plan)
        # A shell does this for a command that is followed by `&`.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = subprocess.Popen(
                ["bash", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        finally:
            signal.signal(signal.SIGINT, before)
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def test_a_stage_that_fails_is_named_and_ends_the_others(
    start: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start('start "one that waits" waits\nstart "one that fails" fails\nfinish_all\n')
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "CI FAILED in: one that fails" in output
    assert "=== one that waits, ended" in output
    assert (tmp_path / "ended").exists()
    assert not (tmp_path / "went-on").exists()


def test_beside_a_wide_stage_another_one_runs_but_no_wide_one(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(
        'places=3\nstart --wide "wide" until_there shown\nstart --wide "next" true\n'
        "start 'narrow, \"quoted\", 1/2' shows 'two words' '*'\nfinish_all\n"
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "<two words><*>" in output
    order = [
        output.index(words)
        for words in (">>> wide", '>>> narrow, "quoted", 1/2', "\n=== wide", ">>> next", "\n=== next")
    ]
    assert order == sorted(order)


def test_an_extra_stage_takes_no_place_and_is_not_waited_for(start: Callable[[str], subprocess.Popen[str]]) -> None:
    process = start(
        'places=1\nstart --extra "extra" until_there shown\nstart "first" true\nwait_for "first"\n'
        'start "second" shows\nfinish_all\n'
    )
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    order = [output.index(words) for words in ("\n=== first", ">>> second", "\n=== extra")]
    assert order == sorted(order)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_stages_cleanly(
    number: signal.Signals, start: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = start('start "one that waits" waits\nfinish_all\n')
    wait_until((tmp_path / "begun").exists, "the stage to begin")
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "CI FAILED in: a signal" in output
    assert (tmp_path / "ended").exists()


@pytest.mark.parametrize("is_ci", [True, False])
def test_only_in_ci_hypothesis_draws_the_same_examples_each_time(is_ci: bool) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "yes"} if is_ci else {})
    code = "import hypothesis, tests.conftest; print(hypothesis.settings().derandomize)"
    told = subprocess.check_output(
        [sys.executable, "-c", code], cwd=RUN.parents[1], env=environment, text=True, timeout=60
    )
    assert told == f"{is_ci}\n"

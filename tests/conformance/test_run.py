"""Running units: what wstest fails to deliver is never taken for success."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from .cases import Unit
from .run import AGENT, Outcome, Setup, SuiteError, list_cases, listed_cases, run_units, specification
from .suite import Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# In twistd's place: nothing here is about what the daemon answers.
DAEMON = """
import signal, socket
server = socket.create_server(("127.0.0.1", 0))
print(f"listening on ws://127.0.0.1:{server.getsockname()[1]}", flush=True)
signal.pause()
"""
# In wstest's place: tells its process id and cases, then reports each of them as OK.
WSTEST = """
import json, os, sys, time
spec = json.load(open("spec.json"))
print("pid", os.getpid())
print("Cases =", spec["cases"], flush=True)
result = {"behavior": "OK", "behaviorClose": "OK", "duration": 1, "remoteCloseCode": 1000, "reportfile": "x.json"}
index = {spec["servers"][0]["agent"]: {case: result for case in spec["cases"]}}
"""
WRITES = 'json.dump(index, open("index.json", "w"))\n'


@dataclass(frozen=True)
class ScriptedSuite:
    """A suite that does what a script says."""

    script: str
    abort: tuple[str, ...] = ()
    description: str = "a script"

    def invocation(self, folder: Path) -> Invocation:
        return Invocation((sys.executable, "-c", WSTEST + self.script), str(folder), dict(os.environ), self.abort)


@pytest.fixture(autouse=True)
def _plain_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "twistd").write_text(f"#!{sys.executable}\n{DAEMON}")
    (folder / "twistd").chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))


def run(tmp_path: Path, script: str, units: Sequence[Unit] = (Unit("short", ("1.1.1", "1.1.2")),), seconds: float = 60) -> list[Outcome]:
    setup = Setup(ScriptedSuite(script), tmp_path / "report", tmp_path)
    return asyncio.run(run_units(units, setup, jobs=2, seconds=seconds, say=lambda _: None))


def test_specification() -> None:
    assert json.loads(specification(9001, [], "/report", "wss"))["servers"][0]["url"] == "wss://127.0.0.1:9001"
    spec = json.loads(specification(9001, ["1.1.1"], "/report"))
    assert spec["servers"] == [{"agent": AGENT, "url": "ws://127.0.0.1:9001"}]
    assert (spec["outdir"], spec["cases"]) == ("/report", ["1.1.1"])


def test_units_run_each_with_its_cases(tmp_path: Path) -> None:
    units = [Unit(name, (f"{name}.1",)) for name in ("12.1", "12.2", "13.1")]
    outcomes = run(tmp_path, WRITES, units)
    assert [outcome.faults for outcome in outcomes] == [[], [], []]
    assert [list(outcome.results) for outcome in outcomes] == [["12.1.1"], ["12.2.1"], ["13.1.1"]]


def test_a_wstest_that_fails_is_a_fault(tmp_path: Path) -> None:
    (outcome,) = run(tmp_path, WRITES + "print('last words'); sys.exit(3)")
    assert outcome.faults == ["wstest ended with status 3, at 'last words'"]


@pytest.mark.parametrize(
    "script", ["", 'open("index.json", "w").write("[")', 'json.dump({"echod": {"1.1.1": {}}}, open("index.json", "w"))']
)
def test_a_report_that_can_not_be_read_is_a_fault(tmp_path: Path, script: str) -> None:
    (outcome,) = run(tmp_path, script)
    assert outcome.results == {}
    (fault,) = outcome.faults
    assert fault.startswith("wstest left no report that can be read")


def test_a_wstest_that_hangs_is_ended(tmp_path: Path) -> None:
    outcomes = run(tmp_path, "time.sleep(600)", [Unit("12.1", ("12.1.1",)), Unit("12.2", ("12.2.1",))], seconds=2)
    for outcome in outcomes:
        assert "the time for the run was over" in outcome.faults[0]
        pid = int((outcome.folder / "wstest.log").read_text().split()[1])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_container_is_ended_by_its_name(tmp_path: Path) -> None:
    # What `docker kill` does for a container: the command that waits for it then ends by itself.
    stop = tmp_path / "stop"
    script = f"\nwhile not os.path.exists({str(stop)!r}): time.sleep(.01)"
    setup = Setup(ScriptedSuite(script, abort=("touch", str(stop))), tmp_path / "report", tmp_path)
    (outcome,) = asyncio.run(run_units([Unit("short", ("1.1.1",))], setup, jobs=1, seconds=2, say=lambda _: None))
    assert "the time for the run was over" in outcome.faults[0]
    assert stop.exists()


def test_the_suite_is_asked_for_its_cases(tmp_path: Path) -> None:
    assert asyncio.run(list_cases(ScriptedSuite(""), tmp_path)) == ["*"]


def test_listed_cases() -> None:
    assert listed_cases("Loading\nCases = ['1.1.1', '2.10']\nServers = [u'ws://x']\n") == ["1.1.1", "2.10"]
    with pytest.raises(SuiteError, match="ImportError"):
        listed_cases("ImportError: no module named twisted\n")

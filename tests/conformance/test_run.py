"""Running units: a report that wstest fails to deliver never counts as success."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.daemon import POLL_INTERVAL, Daemon
from tests.system.proxies import SAMPLES
from tests.tls import Certificate

from .cases import Unit
from .run import AGENT, Outcome, Setup, SuiteError, lane_of, list_cases, listed_cases, run_units, specification
from .suite import CLIENT, Invocation

if TYPE_CHECKING:
    from collections.abc import Sequence

# Time limit in seconds of a run that is to be stopped. A daemon and a Python must have started by then on a busy
# machine.
SHORT = 30

# A replacement for wstest: prints its process id and its cases, then reports each case as OK.
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
    """A suite that runs a script instead of wstest."""

    script: str
    abort: tuple[str, ...] = ()
    description: str = "a script"

    def invocation(self, folder: Path, mode: str = CLIENT) -> Invocation:
        assert mode == CLIENT
        return Invocation((sys.executable, "-c", WSTEST + self.script), str(folder), dict(os.environ), self.abort)


def run(
    tmp_path: Path,
    script: str,
    units: Sequence[Unit] = (Unit("short", ("1.1.1", "1.1.2")),),
    seconds: float = 60,
    arguments: Sequence[str] = (),
    lane: str | None = None,
) -> list[Outcome]:
    setup = Setup(ScriptedSuite(script), tmp_path / "report", arguments, lane=lane)
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
    outcomes = run(tmp_path, "time.sleep(600)", [Unit("12.1", ("12.1.1",)), Unit("12.2", ("12.2.1",))], seconds=SHORT)
    for outcome in outcomes:
        assert "the time limit of the run" in outcome.faults[0]
        pid = int((outcome.folder / "wstest.log").read_text().split()[1])
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_container_is_ended_by_its_name(tmp_path: Path) -> None:
    # `docker kill` ends a container, and the command that waits for the container then ends by itself.
    stop = tmp_path / "stop"
    script = f"\nwhile not os.path.exists({str(stop)!r}): time.sleep(.01)"
    setup = Setup(ScriptedSuite(script, abort=("touch", str(stop))), tmp_path / "report")
    (outcome,) = asyncio.run(run_units([Unit("short", ("1.1.1",))], setup, jobs=1, seconds=SHORT, say=lambda _: None))
    assert "the time limit of the run" in outcome.faults[0]
    assert stop.exists()


def test_the_daemons_command_line_is_the_users(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "here.pem")

    def command(*arguments: str, has_tls: bool = False) -> list[str]:
        return Setup(ScriptedSuite(""), tmp_path, arguments, certificate, has_tls).daemon().command[1:]

    plain = ["--port", "tcp:0:interface=127.0.0.1"]
    assert command() == ["-n", "--pidfile=", "echod", *plain]
    assert command("--compression", "off") == ["-n", "--pidfile=", "echod", *plain, "--compression", "off"]
    words = command("--reactor=asyncio", "echod", "--compression", "off")
    assert words == ["-n", "--pidfile=", "--reactor=asyncio", "echod", *plain, "--compression", "off"]
    secure = ["-n", "--pidfile=", "echod", "--port", f"ssl:0:privateKey={certificate.path}:interface=127.0.0.1"]
    assert command(has_tls=True) == secure


def test_a_daemon_behind_a_proxy_has_the_options_of_its_sample(tmp_path: Path) -> None:
    words, certificate = ["--reactor=asyncio", "echod", "--compression", "off"], Certificate(tmp_path / "here.pem")
    setup = Setup(ScriptedSuite(""), tmp_path, words, certificate, proxy=SAMPLES["haproxy-http2"])
    front = setup.front()
    behind = ["--port", f"tcp:{front.ports[0]}:interface=127.0.0.1", "--trust-proxy", "1", "--compression", "off"]
    assert setup.copy_behind(front).command[1:] == ["-n", "--pidfile=", "--reactor=asyncio", "echod", *behind]


def test_a_daemon_that_ends_by_itself_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter = Daemon.__enter__
    monkeypatch.setattr(Daemon, "__enter__", lambda daemon: enter(daemon).send_signal(signal.SIGKILL))
    (outcome,) = run(tmp_path, WRITES)
    assert list(outcome.results) == ["1.1.1", "1.1.2"]
    (fault,) = outcome.faults
    assert re.match("the daemon ended (by itself )?with -9\n", fault)


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("options", [[], ["--max-connections-per-address", "1000"]])
def test_a_daemon_with_another_lane_than_asked_for_is_a_fault(options: list[str], tmp_path: Path) -> None:
    """A run without guests has to be one: with this option Python has to know of each connection."""
    without = "pump and codec, connections begin in Python because of --max-connections-per-address"
    (outcome,) = run(tmp_path, WRITES, arguments=options, lane=without)
    assert outcome.lane == (without if options else "pump and codec")
    if options:
        assert outcome.faults == []
    else:
        assert outcome.faults == [f"express lane: 'pump and codec' instead of {without!r}"]
        assert outcome.results == {}


def test_lane_of() -> None:
    assert lane_of("[echod.service] express lane: pump and codec (avx2), TLS by the codec alone\nlater\n") == (
        "pump and codec, TLS by the codec alone"
    )
    assert lane_of("") == ""


def test_an_interrupted_run_leaves_no_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[Daemon] = []
    enter = Daemon.__enter__

    def begin(daemon: Daemon) -> Daemon:
        begun.append(daemon)
        return enter(daemon)

    monkeypatch.setattr(Daemon, "__enter__", begin)

    async def interrupt() -> None:
        setup = Setup(ScriptedSuite("time.sleep(600)"), tmp_path / "report")
        running = asyncio.ensure_future(
            run_units([Unit("short", ("1.1.1",))], setup, jobs=1, seconds=60, say=lambda _: None)
        )
        while not begun:
            await asyncio.sleep(POLL_INTERVAL)
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(interrupt())
    assert begun[0].pid
    assert begun[0].has_ended()


def test_the_suite_is_asked_for_its_cases(tmp_path: Path) -> None:
    assert asyncio.run(list_cases(ScriptedSuite(""), tmp_path)) == ["*"]


def test_listed_cases() -> None:
    assert listed_cases("Loading\nCases = ['1.1.1', '2.10']\nServers = [u'ws://x']\n") == ["1.1.1", "2.10"]
    with pytest.raises(SuiteError, match="ImportError"):
        listed_cases("ImportError: no module named twisted\n")

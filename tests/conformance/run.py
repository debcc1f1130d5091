"""Runs units of cases in parallel, each against a daemon of its own.

Knows how to give cases to ``wstest`` and how to read its report. Must never judge the results.
"""

from __future__ import annotations

import ast
import asyncio
import json
import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.daemon import Daemon
from tests.ports import held_port
from tests.system.proxies import Front

from .judge import Result, read_index

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from tests.system.proxies import Sample
    from tests.tls import Certificate

    from .cases import Unit
    from .suite import Suite

HOST = "127.0.0.1"
# The suite's report uses this name for the peer, also in the names of its files.
AGENT = "echod"
# wstest needs one or two seconds to list the cases that it would run.
LIST_SECONDS = 60


class SuiteError(Exception):
    """The suite did not do what it should."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What all units of a run have in common."""

    suite: Suite
    report: Path
    arguments: Sequence[str] = ()  # options of echod; words before an ``echod`` are options of twistd
    certificate: Certificate | None = None  # for TLS, and for a proxy
    has_tls: bool = False
    proxy: Sample | None = None  # the proxy between the suite and each daemon; the proxy ends TLS
    lane: str | None = None  # what a daemon has to say at its start about the express lane

    def daemon(self) -> Daemon:
        """Return a daemon that is not started yet. It inherits the environment, so AUTOBAHN_USE_NVX, ECHOD_NATIVE and
        others take effect."""
        endpoint = f"ssl:0:privateKey={self.certificate.path}" if self.certificate and self.has_tls else "tcp:0"
        own, options = self._cut_arguments()
        return Daemon(*options, ports=[f"{endpoint}:interface={HOST}"], program_options=own)

    def front(self) -> Front:
        """Return the proxy, which is not started yet."""
        assert self.proxy
        assert self.certificate
        return Front(self.proxy, self.certificate)

    def copy_behind(self, front: Front) -> Daemon:
        """Return a daemon behind the proxy, which is not started yet."""
        own, options = self._cut_arguments()
        return front.copy(0, *options, program_options=own)

    def _cut_arguments(self) -> tuple[Sequence[str], Sequence[str]]:
        """Return the options of twistd, and those of echod."""
        cut = list(self.arguments).index("echod") if "echod" in self.arguments else -1
        return self.arguments[: max(cut, 0)], self.arguments[cut + 1 :]


@dataclass(slots=True)
class Outcome:
    """The outcome of a unit: results by case, and faults outside the cases."""

    unit: Unit
    folder: Path
    results: dict[str, Result] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    lane: str = ""
    """What the daemon said at its start about the express lane."""


def specification(port: int, cases: Sequence[str], outdir: str, scheme: str = "ws") -> str:
    """Return a fuzzingclient specification for the suite. With `wss` the suite does not verify the certificate."""
    server = {"agent": AGENT, "url": f"{scheme}://{HOST}:{port}"}
    return json.dumps(
        {"outdir": outdir, "servers": [server], "cases": list(cases), "exclude-cases": [], "exclude-agent-cases": {}},
        indent=2,
    )


def listed_cases(output: str) -> list[str]:
    """Return the cases that wstest says it will run."""
    found = re.search(r"^Cases = (\[.*\])$", output, re.MULTILINE)
    if not found:
        raise SuiteError(f"wstest did not list its cases, but said: {output.strip()[-500:]}")
    return [str(case) for case in ast.literal_eval(found[1])]


async def list_cases(suite: Suite, folder: Path) -> list[str]:
    """Return all cases of the suite, as the suite itself lists them.

    wstest has no command for this, but it lists the selected cases before it connects. A port that refuses the
    connection makes it end at once.
    """
    with held_port() as port:
        await _run_wstest(suite, folder, port, ["*"], LIST_SECONDS)
    return listed_cases((folder / "wstest.log").read_text(errors="replace"))


async def run_units(
    units: Sequence[Unit], setup: Setup, *, jobs: int, seconds: float, say: Callable[[str], None]
) -> list[Outcome]:
    """Run all units, at most `jobs` at a time, within `seconds`. Return one outcome for each, in order."""
    places = asyncio.Semaphore(jobs)
    deadline = asyncio.get_running_loop().time() + seconds

    async def run_one(unit: Unit) -> Outcome:
        async with places:
            outcome = await _run_unit(unit, setup, deadline)
        count = f"{len(outcome.results)} of {len(unit.cases)} cases"
        say(f"unit {unit.name}: {count} in {outcome.seconds:.0f} s; express lane: {outcome.lane}")
        return outcome

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run_one(unit)) for unit in units]
    return [task.result() for task in tasks]


async def _run_unit(unit: Unit, setup: Setup, deadline: float) -> Outcome:
    outcome = Outcome(unit, setup.report / f"unit-{unit.name}")
    outcome.folder.mkdir(parents=True)
    began = time.monotonic()
    scheme = "wss" if setup.has_tls else "ws"
    try:
        async with _serving(setup, outcome.folder) as (port, log):
            outcome.lane = lane_of(log)
            if setup.lane not in (None, outcome.lane):
                raise SuiteError(f"express lane: {outcome.lane!r} instead of {setup.lane!r}")
            left = deadline - asyncio.get_running_loop().time()
            outcome.faults += await _run_wstest(setup.suite, outcome.folder, port, unit.cases, left, scheme)
            outcome.results = _read_results(outcome.folder)
    except (AssertionError, SuiteError) as error:
        outcome.faults.append("\n".join([str(error), *getattr(error, "__notes__", ())]))
    outcome.seconds = time.monotonic() - began
    return outcome


def lane_of(log: str) -> str:
    """Return what a daemon's log says about the express lane, without the name of the instruction set."""
    found = re.search(r"express lane: (.*)$", log, re.MULTILINE)
    return re.sub(r" \(\w+\)", "", found[1]) if found else ""


@asynccontextmanager
async def _serving(setup: Setup, folder: Path) -> AsyncIterator[tuple[int, str]]:
    """Run a daemon, with the proxy in front if there is to be one. Yield the port for the suite, and what the daemon
    has logged at its start."""
    async with AsyncExitStack() as stack:
        front = setup.front() if setup.proxy is not None else None
        daemon = setup.daemon() if front is None else setup.copy_behind(front)
        await stack.enter_async_context(_running(daemon, folder / "daemon.log"))
        port = daemon.port
        if front is not None:
            await stack.enter_async_context(_running(front, folder / "proxy.log"))
            port = front.tls_port if setup.has_tls else front.plain_port
        yield port, daemon.log()


@asynccontextmanager
async def _running(server: Daemon | Front, log: Path) -> AsyncIterator[None]:
    """Run a daemon or a proxy, and copy its log to a file before it ends. Raise `AssertionError` for a fault of it."""
    # Not a task: an interrupted run would cancel it, while the thread and the server went on.
    start = asyncio.get_running_loop().run_in_executor(None, server.__enter__)
    try:
        await asyncio.shield(start)
        yield
    finally:
        await asyncio.wait([start])
        if start.exception() is None:
            log.write_text(server.log())
            await asyncio.to_thread(server.__exit__, None, None, None)


def _read_results(folder: Path) -> dict[str, Result]:
    """Return the results that wstest has written. It writes them only at its end."""
    try:
        return read_index(json.loads((folder / "index.json").read_text()))
    except (OSError, ValueError, KeyError) as error:
        raise SuiteError(f"wstest left no report that can be read: {type(error).__name__}: {error}") from error


async def _run_wstest(
    suite: Suite, folder: Path, port: int, cases: Sequence[str], seconds: float, scheme: str = "ws"
) -> list[str]:
    """Run wstest once, and return the faults of the run itself."""
    call = suite.invocation(folder)
    (folder / "spec.json").write_text(specification(port, cases, call.outdir, scheme))
    with (folder / "wstest.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *call.command,
            cwd=folder,
            env=call.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        async with asyncio.timeout(max(seconds, 0)):
            status = await process.wait()
    except TimeoutError:
        return [f"wstest was stopped at the time limit of the run, at {_last_line(folder / 'wstest.log')!r}"]
    finally:
        if process.returncode is None:
            await _abort(process, call.abort)
    return [f"wstest ended with status {status}, at {_last_line(folder / 'wstest.log')!r}"] if status else []


async def _abort(process: asyncio.subprocess.Process, command: Sequence[str]) -> None:
    """End wstest in any state. A container outlives the command that started it, so it is ended by its name."""
    if command:
        ender = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        await ender.wait()
    else:
        process.kill()
    await process.wait()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return lines[-1] if lines else "nothing printed"

"""Runs the rounds: for each column each server in turn, with the load generator on one core and the server on another,
or both on both cores.

A new process serves each measurement, so that nothing of an earlier one is left in it. The servers of a column are
measured one after the other, and their order rotates from round to round. So other load on the machine affects all
servers alike.

Knows: rounds, the protocol of the load generator. Must never know: tables, targets.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from dataclasses import dataclass, replace
from math import ceil
from typing import IO, TYPE_CHECKING

from benchmarks import build
from benchmarks.process import Launch, Memory, Process, ServerFault, on_cores, running
from benchmarks.results import Sample
from tests.ports import held_port

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.columns import Column
    from benchmarks.servers import Server

WANTED_FILES = 65536
SPARE_FILES = 200
"""The descriptors that a server has open besides its connections."""
GENERATOR_SECONDS = 120.0
"""Time limit in seconds for a single measurement, whatever the server does."""
SETTLE_SECONDS = 0.5
"""Seconds between the last answer and the look at an idle server's memory, so that the server finishes what it put
off."""


EACH_ALIKE = ("hold", "pinged", "storm")
"""Modes whose figures are for each connection, so that the number of connections matters little."""
SPINNING = ("latency", "storm")
"""Modes in which the load generator looks for work all the time, whether or not there is any."""

Outcome = dict[str, float | str]
"""The JSON object that the load generator prints."""


@dataclass(frozen=True)
class Plan:
    """How long and how often to measure."""

    seconds: float
    warmup: float
    rounds: int
    budget: float
    """Seconds after which no further column begins."""
    server_core: int
    generator_core: int

    def cores(self, column: Column) -> tuple[frozenset[int], frozenset[int]]:
        """Return the cores of the server and those of the load generator."""
        server, generator = frozenset({self.server_core}), frozenset({self.generator_core})
        return (server | generator,) * 2 if column.shared else (server, generator)


def choose_cores() -> tuple[int, int]:
    """Return one core for the server and another for the load. On a single core they would only measure each other."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("benchmarks: two cores are needed, one for the server and one for the load generator")
    return cores[-1], cores[0]


def raise_file_limit() -> int:
    """Raise the limit on open files as far as this process may, and return it. Root may raise the hard limit, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (max(hard, WANTED_FILES), hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (ValueError, OSError):
            continue
        return wanted
    return soft


def features(column: Column) -> frozenset[str]:
    """Return the features that the generator must be built with."""
    wanted = {"deflate": column.deflate != "off", "tls": column.tls}
    return frozenset(name for name, needed in wanted.items() if needed)


def generator_command(column: Column, process: Process, plan: Plan) -> list[str]:
    """Return the load generator's command line."""
    command = [str(build.load_generator(features(column))), "--port", str(process.port), "--pause"]
    command += column.arguments(plan.seconds, plan.warmup)
    for pid in process.pids():
        command += ["--watch", str(pid)]
    if column.tls:
        command += ["--ca", str(build.certificate()[0])]
    return command


def answer_pauses(output: IO[str], answer: IO[str], at_pause: Callable[[str], None]) -> Outcome:
    """Answer the generator's pauses until it prints its line of JSON, and return that."""
    for line in output:
        word = line.strip()
        if word.startswith("{"):
            outcome: Outcome = json.loads(word)
            return outcome
        at_pause(word)
        answer.write("\n")
        answer.flush()
    return {"error": "the load generator ended without a result"}


def drive(column: Column, process: Process, plan: Plan) -> tuple[Outcome, Memory]:
    """Run the generator, and look at the server's memory while its connections are open."""
    seen = Memory(0, 0)

    def look(word: str) -> None:
        nonlocal seen
        if column.mode == "hold":
            time.sleep(SETTLE_SECONDS)
        if word == "measured" or column.mode == "hold":
            seen = process.memory()

    with on_cores(plan.cores(column)[1]):
        generator = subprocess.Popen(
            ["timeout", "--signal=KILL", str(GENERATOR_SECONDS), *generator_command(column, process, plan)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        outcome = answer_pauses(generator.stdout, generator.stdin, look)
    return outcome, seen


def to_sample(
    server: Server, column: Column, turn: int, outcome: Outcome, memory: tuple[list[Memory], Memory]
) -> Sample:
    """Return the generator's result as a sample."""
    if "error" in outcome:
        return Sample(server.key, column.key, turn, error=str(outcome["error"]))
    if outcome["messages"] == 0 and column.mode != "hold":
        return Sample(server.key, column.key, turn, error="nothing was answered while it was measured")
    before, after = memory
    got = {name: float(value) for name, value in outcome.items()}
    messages = int(got["messages"])
    return Sample(
        server=server.key,
        column=column.key,
        turn=turn,
        connections=column.opened,
        messages=messages,
        seconds=got["seconds"],
        rate=got["rate"],
        p50=got["p50"],
        p90=got["p90"],
        p99=got["p99"],
        max=got["max"],
        generator_share=0.0 if column.mode in SPINNING else got["cpu_share"],
        cpu_per_message=got["server_cpu_seconds"] * 1e6 / messages if messages else 0.0,
        packed_share=got["packed"] / messages if messages else 0.0,
        pss_before=sum(process.pss for process in before),
        processes=[process.pss for process in before],
        pss=after.pss,
        rss=after.rss,
        opening_seconds=got["opening_seconds"],
    )


def measure(server: Server, column: Column, turn: int, plan: Plan) -> Sample:
    """Measure one server with one column once."""
    try:
        with held_port() as port:
            launch = Launch(
                command=server.command(port, column),
                environment=server.environment(),
                directory=build.ROOT,
                log=build.BUILD / f"{server.key}.log",
                port=port,
                cores=plan.cores(column)[0],
                ready=server.ready,
            )
            with running(launch) as process:
                before = process.memories()
                outcome, after = drive(column, process, plan)
    except (ServerFault, build.Unavailable) as fault:
        return Sample(server.key, column.key, turn, error=str(fault))
    return to_sample(server, column, turn, outcome, (before, after))


def rotated(servers: list[Server], turn: int) -> list[Server]:
    """Return the servers in rotated order, so that a different one begins in each round."""
    at = turn % len(servers)
    return servers[at:] + servers[:at]


def schedule(columns: list[Column], rounds: int) -> list[tuple[int, Column]]:
    """Return the columns of each round. Not all columns take part in every round."""
    return [(turn, column) for turn in range(rounds) for column in columns if turn < column.rounds]


def fitting(column: Column, files: int) -> Column | None:
    """Return the column as this machine can measure it, or None if it cannot. If all connections do the same, then
    fewer of them show nearly the same, in hundreds."""
    surplus = column.files + SPARE_FILES - files
    if surplus <= 0:
        return column
    if column.mode not in EACH_ALIKE:
        return None
    fewer = (column.connections - ceil(surplus / column.files_each)) // 100 * 100
    return replace(column, connections=fewer) if fewer > 0 else None


def run_rounds(servers: list[Server], columns: list[Column], plan: Plan, tell: Callable[[str], None]) -> list[Sample]:
    """Run all rounds within the budget. In a round, a column is measured on all its servers or on none."""
    files = raise_file_limit()
    begun = time.monotonic()
    samples: list[Sample] = []
    allowed: list[Column] = []
    for column in columns:
        fit = fitting(column, files)
        if fit is None:
            tell(f"{column.key}: left out, it needs more than the {files} files allowed")
            continue
        if fit != column:
            tell(f"{column.key}: {fit.connections} connections, because only {files} files are allowed")
        allowed.append(fit)
    for turn, column in schedule(allowed, plan.rounds):
        if time.monotonic() - begun > plan.budget:
            tell(f"the budget of {plan.budget:.0f} s is used up in round {turn + 1}, before {column.key}")
            break
        for server in rotated(servers, turn):
            if server.serves(column):
                samples.append(measure(server, column, turn, plan))
                tell(describe(samples[-1], time.monotonic() - begun))
    return samples


def describe(sample: Sample, elapsed: float) -> str:
    """Return one line of progress."""
    head = f"{elapsed:6.0f} s  round {sample.turn + 1}  {sample.column:14} {sample.server:13}"
    if sample.error:
        return f"{head} {sample.error}"
    cost = f"{sample.cpu_per_message:9.2f} us CPU  p99 {sample.p99:9.1f} us"
    return f"{head} {sample.rate:12,.0f}/s  {cost}  generator {sample.generator_share:4.0%}"

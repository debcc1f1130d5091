"""All workers together: numbers that never fall, and lists of connections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.internet.error import ProcessTerminated

from echod.net.endpoints import parse_endpoint
from echod.run.workers.watched_worker import PATIENCE
from echod.web.admin import describe_settings
from echod.web.metrics.collect import add_up_all
from echod.web.metrics.values import AllValues, Observed, pack
from echod.web.overview import Overview
from tests.run.test_service import REAL
from tests.run.workers.played import DEAF, Reactor, Started, make, result
from tests.tls import Certificate


def faults(values: AllValues) -> Any:
    return values["echod_faults_total"]


def test_numbers_are_added_up_and_outlive_their_worker(started: Started) -> None:
    first, second = started.processes
    first.serve(open_=1, delay=3)
    assert result(started.service.totals.values())["echod_connections_open"] == {(): 1}
    second.serve(open_=2, delay=4, drop=1)
    values = result(started.service.totals.values())
    assert values["echod_connections_open"] == {(): 3}
    assert (values["echod_workers_serving"], values["echod_workers_wanted"]) == ({(): 2}, {(): 2})
    assert started.service.totals.processes() == {"0": 100, "1": 101}
    assert list(values["echod_build_info"].values()) == [1]
    assert faults(values) == {("delay",): 7, ("drop",): 1}
    started.reactor.advance(1)
    first.end(ProcessTerminated(None, 9))
    values = result(started.service.totals.values())
    assert (values["echod_connections_open"], faults(values)) == ({(): 2}, {("delay",): 7, ("drop",): 1})
    assert (values["echod_workers_serving"], values["echod_workers_wanted"]) == ({(): 1}, {(): 2})
    assert started.service.totals.processes() == {"1": 101}
    # A worker that does not answer is waited for; then its last known counts are shown.
    second.answers = DEAF
    asked = started.service.totals.values()
    started.reactor.advance(PATIENCE)
    values = result(asked)
    assert values["echod_connections_open"] == {}
    assert faults(values) == {("delay",): 7, ("drop",): 1}
    second.link.tell("last", pack({"echod_faults_total": {("delay",): 5}}))
    second.end()
    assert faults(result(started.service.totals.values())) == {("delay",): 8}


def test_a_number_that_was_shown_never_falls(started: Started) -> None:
    """To Prometheus, a sum that falls looks like a restart."""
    first, second = started.processes
    first.serve(open_=1, delay=3)
    second.serve()
    assert faults(result(started.service.totals.values())) == {("delay",): 3}
    # There has been no pulse since.
    first.end(ProcessTerminated(None, 9))
    values = result(started.service.totals.values())
    assert (values["echod_connections_open"], faults(values)) == ({(): 0}, {("delay",): 3})
    second.answers = DEAF
    asked = started.service.totals.values()
    second.link.tell("last", pack({"echod_faults_total": {("delay",): 5}}))
    assert not asked.called
    started.reactor.advance(PATIENCE)
    assert faults(result(asked)) == {("delay",): 8}


def test_counts_that_do_not_fit_do_not_prevent_a_restart(started: Started, lines: list[str]) -> None:
    """The counts of a process that was started after an upgrade may not fit."""
    first, second = started.processes
    first.serve()
    second.serve(delay=3)
    started.reactor.advance(1)
    second.end(ProcessTerminated(None, 9))
    first.link.tell("last", pack({"echod_connection_duration_seconds": {(): Observed({1.5: 1}, 1.0)}}))
    first.end(ProcessTerminated(None, 9))
    assert lines[-2:] == [
        "the counts of worker 100 are lost",
        "worker 100 was killed by SIGKILL; the next starts in 100ms",
    ]
    started.reactor.advance(0.1)
    assert started.service.totals.processes() == {"0": 103, "1": 102}
    assert faults(result(started.service.totals.values())) == {("delay",): 3}


def test_before_any_serves_there_are_pages(started: Started) -> None:
    page = result(Overview(started.service.totals, started.reactor).render(None))
    assert b"starting" in page.body
    settings = json.loads(describe_settings(started.service.totals, result(started.service.totals.values())).body)
    assert (settings["workers"], settings["max-connections"], settings["max-message-size"]) == (2, 0, 2**24)


def test_connections_are_listed_worker_by_worker(started: Started) -> None:
    first, second = started.processes
    first.serve(open_=3)
    second.serve(open_=4)

    def listed(start: int, size: int) -> tuple[int, list[tuple[int, int]]]:
        total, told = result(started.service.totals.connections(start, size))
        return total, [(connection["process"], connection["number"]) for connection in told]

    everything = [(100, 0), (100, 1), (100, 2), (101, 0), (101, 1), (101, 2), (101, 3)]
    for start in range(9):
        for size in range(1, 9):
            assert listed(start, size) == (7, everything[start : start + size])
    newest = result(started.service.totals.newest(2))
    assert [(told["process"], told["number"]) for told in newest] == [(100, 2), (100, 1)]
    for number, process in (("100-1", 100), ("101-1", 101), ("102-1", None), ("1", None), ("", None)):
        told = result(started.service.totals.traced(number))
        assert told == (process and {"process": process, "number": number, "frames": []})
    first.end()
    assert listed(0, 10) == (4, everything[3:])
    assert result(started.service.totals.traced("100-1")) is None
    started.service.reload()


def test_the_certificates_of_the_admin_site_are_among_the_numbers(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path / "a.pem")
    text = f"ssl:0:privateKey={certificate.path}"
    service = make(Reactor(), admin_endpoints=[(text, parse_endpoint(REAL, text))])
    ends = result(service.totals.values())["echod_certificate_not_after_timestamp_seconds"]
    assert ends == {(text, "localhost"): certificate.certificate.not_valid_after_utc.timestamp()}


def test_nothing_adds_up_to_nothing() -> None:
    assert add_up_all([]) == add_up_all([{}, {}]) == {}

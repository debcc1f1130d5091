"""The report judges and shows figures correctly: medians, marks, verdicts, and no paths of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from benchmarks import plot, report, results
from benchmarks.columns import COLUMNS
from benchmarks.results import Results, Sample
from benchmarks.servers import SERVERS
from benchmarks.targets import TARGETS, Target

if TYPE_CHECKING:
    from pathlib import Path


def sample(server: str, column: str, rate: float, **more: float) -> Sample:
    """One run."""
    values = {"turn": 0, "connections": 64, "messages": 1000, "seconds": 1.0} | more
    return Sample(server, column, rate=rate, **values)  # type: ignore[arg-type] # turn and the counts are whole numbers


def of(*samples: Sample) -> Results:
    """Return a whole run."""
    return Results({"CPU": "a fast one"}, {"rounds": "3"}, {"echod": "1.0"}, {}, 0.0, list(samples))


def test_the_median_of_the_rounds_counts() -> None:
    found = of(*[sample("echod", "small", rate) for rate in (90, 1, 100)])
    assert found.rate("echod", "small") == 90


def test_a_failed_round_does_not_count_and_is_reported() -> None:
    found = of(sample("echod", "small", 90), Sample("echod", "small", 1, error="/usr/bin/twistd: wrong octet"))
    assert found.rate("echod", "small") == 90
    assert "- echod, c64 d1, 16 B text: twistd: wrong octet." in report.notes(found)


@pytest.mark.parametrize(("share", "marked"), [(0.5, False), (0.95, True)])
def test_a_rate_that_the_generator_limited_is_marked(share: float, marked: bool) -> None:
    found = of(sample("echod", "small", 123_456, generator_share=share))
    assert (f"123,000{report.LIMITED_MARK}" in report.markdown(found)) == marked


@pytest.mark.parametrize(("rate", "verdict"), [(1250, True), (1249, False)])
def test_a_ratio_as_a_target(rate: float, verdict: bool) -> None:
    found = of(sample("echod", "small", rate), sample("gorilla", "small", 1000))
    assert Target("small", 1.25, "gorilla").is_reached(found) is verdict


@pytest.mark.parametrize(("cost", "verdict"), [(4.4, True), (4.5, False)])
def test_a_cost_as_a_target(cost: float, verdict: bool) -> None:
    found = of(sample("echod", "small", 1, cpu_per_message=cost), sample("floor", "small", 1, cpu_per_message=4.0))
    assert Target("small", 1.1, "floor", quantity="cpu", at_most=True).is_reached(found) is verdict


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.5, "| open, handshake, drop: echod | 2 |"), (0.95, "| open, handshake, drop: echod | 4 ² |")],
)
def test_cpu_times_are_compared_where_the_generator_limited_a_rate(share: float, shown: str) -> None:
    found = of(
        sample("echod", "opens", 2000, cpu_per_message=10.0, generator_share=share),
        sample("gorilla", "opens", 1000, cpu_per_message=40.0),
    )
    assert shown in report.ratios(found)


def test_a_cost_is_that_of_what_the_column_counts() -> None:
    words = {report.target_words(Target(key, 6, quantity="cpu")) for key in ("small", "opens", "pinged", "storm")}
    assert words == {f"server CPU per {counted} ≥ 6 µs" for counted in ("message", "open", "ping", "client")}


def test_storms_have_a_table_of_their_own() -> None:
    found = of(
        sample("echod", "storm", 4000, seconds=2.5, p50=100.0, p99=2000.0, max=30_000.0, cpu_per_message=70.0),
        Sample("gorilla", "storm", 0, error="a client was not served"),
    )
    text = report.markdown(found)
    assert "| storm: 10,000 clients come back | 2.5 / 100 / 2,000 / 30,000 | failed |" in text
    assert f"| storm: 10,000 clients come back | 70 | {report.EMPTY} |" in text, "what a client costs"
    assert text.count("| storm: 10,000 clients come back |") == 2


@pytest.mark.parametrize(("connections", "noted"), [(19_800, True), (50_000, False)])
def test_fewer_connections_than_the_title_says_are_noted(connections: int, noted: bool) -> None:
    words = "- idle: 50,000 connections, only opened: 19,800 connections at once"
    assert (words in report.notes(of(sample("echod", "idle-50000", 0, connections=connections)))) is noted


def test_pings_of_the_server_have_a_cost_and_no_rate() -> None:
    text = report.markdown(of(sample("echod", "pinged", 2500, cpu_per_message=5.0)))
    assert text.count("\n| c10,000, a ping of the server every 4 s | 5 |") == 1
    assert "2,500" not in text


def test_memory_is_what_a_connection_adds() -> None:
    found = of(sample("echod", "idle", 0, connections=1000, pss_before=40_000, pss=47_000))
    assert found.kib_per_connection("echod", "idle") == 7


def test_both_cores_have_a_table_of_their_own() -> None:
    each = {"cpu_per_message": 4.0, "processes": [40 * 1024, 30 * 1024, 30 * 1024]}
    found = of(
        sample("echod", "small-shared", 1000),
        sample("echod-2", "small-shared", 2000, **each),  # type: ignore[arg-type]
        sample("echod", "small", 1),
    )
    text = report.markdown(found)
    assert "| both cores: c64 d1, 16 B text | 1,000 / 0 | 2,000 / 4 |" in text
    assert "echod, `--workers 2`: 40 + 30 + 30 MiB without a connection" in text
    assert text.count("| echod, `--workers 2` |") == 1, "it is only in the table for both cores"


def test_what_was_not_measured_is_not_judged() -> None:
    found = of(sample("echod", "small", 1000))
    assert Target("small", 1.25, "gorilla").is_reached(found) is None
    assert "not measured" in report.targets(found)


def test_every_target_names_an_existing_server_and_column() -> None:
    servers, columns = {server.key for server in SERVERS}, {column.key for column in COLUMNS}
    for target in TARGETS:
        assert {target.server, target.against or target.server} <= servers
        assert {target.column, target.against_column or target.column} <= columns


def test_a_busy_machine_is_reported() -> None:
    quiet = of(sample("echod", "small", 1))
    assert "not quiet" not in report.markdown(quiet)
    assert "not quiet" in report.markdown(Results(quiet.machine, {}, quiet.versions, {}, 0.5, quiet.samples))


def test_raw_figures_survive_the_file(tmp_path: Path) -> None:
    found = of(sample("echod", "small", 1), sample("floor", "small", 2))
    results.save(found, tmp_path / "deep" / "results.json")
    assert results.load(tmp_path / "deep" / "results.json") == found


def test_only_what_is_between_the_markers_is_renewed(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.write_into(document, "new")
    report.write_into(document, "newer")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnewer\n\n{report.END}\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("mine\n")
    with pytest.raises(SystemExit):
        report.write_into(document, "new")
    assert document.read_text() == "mine\n"


def test_the_picture_is_well_formed_and_shows_every_server() -> None:
    every = [sample(server.key, column.key, 100.0) for server in SERVERS for column in COLUMNS]
    picture = plot.svg(of(*every))
    ElementTree.fromstring(picture)
    assert all(plot.plain_title(server) in picture for server in SERVERS)
    assert set(plot.COLOURS) == {server.key for server in SERVERS}

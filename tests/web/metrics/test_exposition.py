"""The metrics as Prometheus takes them, and those of processes."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from echod.web.metrics.collect import read_all
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.exposition import _OfOne, make_registry
from echod.websocket.factory import EchoFactory
from tests.tools import needed
from tests.web.metrics.daemon import used_factory


@pytest.fixture
def factory() -> EchoFactory:
    return used_factory()


def test_each_process_has_its_own_numbers(factory: EchoFactory) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        gone = 2**22  # Linux gives no process such a number
        text = generate_latest(make_registry(lambda: read_all(factory), lambda: {"0": other.pid, "1": gone})).decode()
        other.kill()
    found = {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith("process_")
    }
    of_us = {name for name in found if "{" not in name}
    assert {name + '{worker="0"}' for name in of_us} == found.keys() - of_us
    assert found["process_cpu_seconds_total"] > found['process_cpu_seconds_total{worker="0"}']
    assert found["process_start_time_seconds"] < found['process_start_time_seconds{worker="0"}']
    assert text.count("# TYPE process_cpu_seconds_total counter") == 1


def test_the_numbers_of_a_process_need_only_its_part_of_proc(tmp_path: Path) -> None:
    for pid in (1, "self"):
        (tmp_path / str(pid)).symlink_to(Path(f"/proc/{pid}").resolve())
    began = time.time() - float(Path("/proc/uptime").read_text().split()[0])
    assert not list(ProcessCollector(proc=str(tmp_path), registry=None).collect()), (
        "prometheus_client's own can do it now"
    )
    families = {family.name: family for family in _OfOne(pid=lambda: 1, proc=str(tmp_path), registry=None).collect()}
    assert "process_cpu_seconds" in families
    (started,) = families["process_start_time_seconds"].samples
    assert began - 1 < started.value < time.time()


def test_the_parsers_take_both_formats(factory: EchoFactory) -> None:
    registry = make_registry(lambda: read_all(factory))
    own = {metric.name.removesuffix("_total") for metric in METRICS}
    plain = {family.name for family in parse(generate_latest(registry).decode())}
    assert own <= plain
    families = {family.name: family for family in parse_openmetrics(generate_openmetrics(registry).decode())}
    assert own <= families.keys()
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_promtool_finds_no_fault(factory: EchoFactory) -> None:
    promtool = needed("promtool", "prometheus")
    next(iter(factory.live)).connectionLost()
    text = generate_latest(make_registry(lambda: read_all(factory)))
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

"""The metrics: declared as the documentation has them, shown as Prometheus wants them, and fit to be added up."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from prometheus_client import ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from echod.web.metrics import METRICS, Observed, Values, _OfOne, add_up, add_up_all, make_registry, read_all
from echod.websocket.factory import EchoFactory, State
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, TEXT, client_frame
from tests.test_readme import rows
from tests.tools import needed

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "metrics.md"


@pytest.fixture
def factory() -> EchoFactory:
    factory = make_factory(max_connections=7, max_buffered=1000)
    peer, other = Peer(factory), Peer(factory)
    peer.open()
    for size in (0, 1, 2, 4, 5, 100):
        peer.send(client_frame(TEXT, b"x" * size))
    peer.send(client_frame(BINARY, bytes(300)))
    other.send(b"GET / HTTP/1.1\r\n\r\n")
    other.lose()
    Peer(factory).lose()
    factory.counts.fault("close")
    factory.counts.lags.observe(0.003)
    factory.state = State.SERVING
    factory.certificates = lambda: {("ssl:1", "a.example"): 1234.0}
    return factory


def samples(factory: EchoFactory) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus' own format writes them."""
    text = generate_latest(make_registry(lambda: read_all(factory))).decode()
    return {
        line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if not line.startswith("#")
    }


def test_what_happened_is_told(factory: EchoFactory) -> None:
    found = samples(factory)
    expected = {
        "echod_connections_open": 1,
        "echod_connections_limit": 7,
        "echod_connections_backpressured": 0,
        "echod_buffered_bytes": 0,
        "echod_buffered_limit_bytes": 1000,
        'echod_connections_total{outcome="refused"}': 1,
        'echod_connections_total{outcome="lost"}': 1,
        'echod_connections_total{outcome="clean"}': 0,
        'echod_handshakes_refused_total{reason="the Host header",status="400"}': 1,
        'echod_messages_received_total{lane="autobahn",type="text"}': 6,
        'echod_messages_sent_total{lane="autobahn",type="binary"}': 1,
        'echod_messages_sent_total{lane="pump",type="binary"}': 0,
        'echod_payload_received_bytes_total{lane="autobahn",type="text"}': 112,
        'echod_payload_sent_bytes_total{lane="autobahn",type="binary"}': 300,
        'echod_message_size_bytes_bucket{le="1",type="text"}': 2,
        'echod_message_size_bytes_bucket{le="4",type="text"}': 4,
        'echod_message_size_bytes_bucket{le="16",type="text"}': 5,
        'echod_message_size_bytes_bucket{le="64",type="text"}': 5,
        'echod_message_size_bytes_bucket{le="256",type="text"}': 6,
        'echod_message_size_bytes_bucket{le="256",type="binary"}': 0,
        'echod_message_size_bytes_bucket{le="1024",type="binary"}': 1,
        'echod_message_size_bytes_bucket{le="+Inf",type="text"}': 6,
        'echod_message_size_bytes_sum{type="text"}': 112,
        'echod_message_size_bytes_count{type="binary"}': 1,
        'echod_faults_total{fault="close"}': 1,
        'echod_event_loop_lag_seconds_bucket{le="0.0025"}': 0,
        'echod_event_loop_lag_seconds_bucket{le="0.005"}': 1,
        "echod_connection_duration_seconds_count": 0,
        'echod_certificate_not_after_timestamp_seconds{endpoint="ssl:1",names="a.example"}': 1234,
        "echod_workers_serving": 1,
        "echod_workers_wanted": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["process_open_fds"] > 0
    (build,) = (name for name in found if name.startswith("echod_build_info"))
    assert 'version="' in build


def test_of_a_process_each_tells_for_itself(factory: EchoFactory) -> None:
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


def test_of_a_process_is_told_where_there_is_no_more_of_proc(tmp_path: Path) -> None:
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


def test_a_close_is_told(factory: EchoFactory) -> None:
    next(iter(factory.live)).connectionLost()
    found = samples(factory)
    assert found['echod_closes_total{by="client",code="1006"}'] == 1
    assert found["echod_connection_duration_seconds_count"] == 1


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


def test_several_daemons_add_up(factory: EchoFactory) -> None:
    other = make_factory()
    Peer(other).lose()
    for metric in METRICS:
        single, both = metric.read(factory), add_up([metric.read(factory), metric.read(factory), metric.read(other)])
        assert single.keys() <= both.keys()
    by_name = {metric.name: metric for metric in METRICS}
    sizes: Values = by_name["echod_message_size_bytes"].read(factory)
    twice = add_up([sizes, sizes])["text",]
    assert isinstance(twice, Observed)
    assert (sum(twice.places.values()), twice.total, twice.places[256.0]) == (12, 224, 2)
    outcomes = by_name["echod_connections_total"]
    assert add_up([outcomes.read(factory), outcomes.read(other)])["lost",] == 2


def test_of_what_is_alike_there_is_one_number(factory: EchoFactory) -> None:
    other = make_factory()
    other.certificates = lambda: {("ssl:1", "a.example"): 1000.0, ("ssl:2", "b.example"): 2000.0}
    both = add_up_all([read_all(factory), read_all(other)])
    assert list(both["echod_build_info"].values()) == [1]
    assert both["echod_certificate_not_after_timestamp_seconds"] == {
        ("ssl:1", "a.example"): 1000,
        ("ssl:2", "b.example"): 2000,
    }


def test_the_documentation_has_each_metric_as_it_is() -> None:
    documented = [cells for cells in rows(DOCUMENT.read_text()) if cells[0].startswith("`echod_")]
    in_code = [
        [f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels)] for metric in METRICS
    ]
    assert [cells[:3] for cells in documented] == in_code
    assert all(re.search(r"\w", cells[3]) for cells in documented)

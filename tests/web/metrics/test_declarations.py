"""The metrics: declared as the documentation has them, and what each one says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from twisted.internet.task import Clock

from echod.web.metrics.collect import read_all
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.exposition import make_registry
from echod.websocket.factory import EchoFactory
from tests import metrics_text
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, client_frame, close_payload
from tests.h2_client import exchange
from tests.test_readme import rows
from tests.web.metrics.daemon import used_factory

DOCUMENT = Path(__file__).parent.parent.parent.parent / "docs" / "metrics.md"


@pytest.fixture
def factory() -> EchoFactory:
    return used_factory()


def samples(factory: EchoFactory) -> dict[str, float]:
    """Return every sample of the registry by its name and labels."""
    return metrics_text.samples(generate_latest(make_registry(lambda: read_all(factory))).decode())


def test_every_number_is_reported(factory: EchoFactory) -> None:
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


def test_http2() -> None:
    clock = Clock()
    factory = make_factory(clock)
    made, other = exchange(clock, factory), exchange(clock, factory)
    number = made.opened()
    made.echo(number, client_frame(CLOSE, close_payload(1000)))
    Peer(factory).open()
    other.session.dataReceived(b"\xff\xff\xff\0\0\0\0\0\0")
    found = samples(factory)
    assert found["echod_http2_connections_open"] == 2
    assert found["echod_connections_open"] == 3, "one over HTTP/1.1, and two HTTP/2 connections without a WebSocket"
    assert found['echod_connections_by_http_total{http="1.1"}'] == 0
    assert found['echod_connections_by_http_total{http="2"}'] == 1
    assert found['echod_http2_errors_total{code="FRAME_SIZE_ERROR"}'] == 1


def test_a_close_is_counted(factory: EchoFactory) -> None:
    next(iter(factory.live)).connectionLost()
    found = samples(factory)
    assert found['echod_closes_total{by="client",code="1006"}'] == 1
    assert found["echod_connection_duration_seconds_count"] == 1


def test_the_documentation_has_each_metric_as_it_is() -> None:
    documented = [cells for cells in rows(DOCUMENT.read_text()) if cells[0].startswith("`echod_")]
    in_code = [
        [f"`{metric.name}`", metric.kind, ", ".join(f"`{label}`" for label in metric.labels)] for metric in METRICS
    ]
    assert [cells[:3] for cells in documented] == in_code
    assert all(re.search(r"\w", cells[3]) for cells in documented)

"""The numbers of all metrics: of one daemon, and of several together."""

from __future__ import annotations

import pytest

from echod.web.metrics.collect import add_up_all, read_all, read_counts
from echod.web.metrics.declarations import METRICS
from echod.web.metrics.values import Observed, Values, add_up
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.web.metrics.daemon import used_factory


@pytest.fixture
def factory() -> EchoFactory:
    return used_factory()


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


def test_processes_that_report_the_same_thing_have_one_number(factory: EchoFactory) -> None:
    other = make_factory()
    other.certificates = lambda: {("ssl:1", "a.example"): 1000.0, ("ssl:2", "b.example"): 2000.0}
    both = add_up_all([read_all(factory), read_all(other)])
    assert list(both["echod_build_info"].values()) == [1]
    assert both["echod_certificate_not_after_timestamp_seconds"] == {
        ("ssl:1", "a.example"): 1000,
        ("ssl:2", "b.example"): 2000,
    }


def test_only_counters_outlive_a_process(factory: EchoFactory) -> None:
    kept = read_counts(factory)
    assert kept.items() <= read_all(factory).items()
    assert {metric.name: metric.kind == "gauge" for metric in METRICS if metric.name not in kept} == {
        metric.name: True for metric in METRICS if metric.kind == "gauge"
    }

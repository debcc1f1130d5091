"""The other files of etc/: the configurations for Prometheus, Grafana and Kubernetes are consistent, and agree with
echod's metrics and options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echod.core.quantities import MIB
from echod.options import Options
from echod.settings import Settings
from echod.web.metrics.declarations import METRICS
from tests.daemon import run
from tests.system.proxies import ETC, SAMPLES, Sample, find_python, find_tool
from tests.tools import needed

PROMETHEUS, KUBERNETES = ETC / "prometheus", ETC / "kubernetes" / "echod.yaml"

OF_PROCESS = {
    *("process_cpu_seconds_total", "process_open_fds", "process_max_fds"),
    *("process_resident_memory_bytes", "process_start_time_seconds"),
}
"""The metrics of prometheus_client's ProcessCollector that are used here."""

BY_PROMETHEUS = {"job", "instance", "namespace", "pod", "le"}
"""Labels that a scrape adds."""

RULES = PROMETHEUS / "alerts.yml"


def promtool(*arguments: str | Path) -> str:
    done = run(needed("promtool", "prometheus"), *map(str, arguments))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def load_yaml(path: Path) -> list[Any]:
    """Return the documents in a file. Another Python reads it, because echod depends on no YAML parser."""
    program = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))"
    done = run(find_python(), "-c", program, str(path))
    assert done.returncode == 0, done.stderr
    documents: list[Any] = json.loads(done.stdout)
    return documents


def dashboard() -> Any:
    return json.loads((PROMETHEUS / "dashboard.json").read_text())


def expressions() -> Iterator[str]:
    """Yield every PromQL expression in etc/."""
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield target["expr"]
    for variable in dashboard()["templating"]["list"]:
        if query := re.fullmatch(r"label_values\((.*), \w+\)", variable.get("definition", "")):
            yield query[1]
    for group in load_yaml(RULES)[0]["groups"]:
        for rule in group["rules"]:
            yield rule["expr"]
    for rule in load_yaml(PROMETHEUS / "adapter.yml")[0]["rules"]["custom"]:
        yield rule["seriesQuery"]


def known_series() -> dict[str, set[str]]:
    """Return the labels of each of echod's series by name."""
    series = dict.fromkeys(OF_PROCESS, BY_PROMETHEUS | {"worker"})
    for metric in METRICS:
        suffixes = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        series |= {metric.name + suffix: {*metric.labels, *BY_PROMETHEUS} for suffix in suffixes}
    return series


class TestPrometheus:
    """`promtool` accepts the files, and no name is invented."""

    def test_configuration_and_rules(self) -> None:
        assert "SUCCESS: 12 rules found" in promtool("check", "config", PROMETHEUS / "prometheus.yml")

    def test_each_alert_fires_when_it_should_and_says_so(self) -> None:
        tests = Path(__file__).parent / "alerts_test.yml"
        promtool("test", "rules", tests)
        fired = {
            case["alertname"]
            for test in load_yaml(tests)[0]["tests"]
            for case in test["alert_rule_test"]
            if case.get("exp_alerts")
        }
        assert fired == {rule["alert"] for group in load_yaml(RULES)[0]["groups"] for rule in group["rules"]}

    def test_every_metric_and_label_is_one_of_echods(self) -> None:
        series = known_series()
        used: set[str] = set()
        for expression in expressions():
            names = set(re.findall(r"\b(?:echod|process)_\w+", expression))
            assert names <= series.keys(), expression
            labels = {label for name in names for label in series[name]}
            by = re.findall(r"\b(?:by|without) \(([^)]*)\)", expression)
            wanted = re.findall(r"[{,] ?(\w+)(?:=|!)", expression)
            assert {label.strip() for labels in by for label in labels.split(",")} | set(
                wanted
            ) <= labels | BY_PROMETHEUS, expression
            used |= names
        # Every metric is shown or alerted on somewhere.
        shown = {re.sub("_(bucket|sum|count)$", "", name) for name in used} | used
        assert {metric.name for metric in METRICS} <= shown

    def test_the_dashboards_expressions_are_promql(self, tmp_path: Path) -> None:
        rules = [
            {"record": f"panel:{index}", "expr": expression.replace("$__rate_interval", "1m")}
            for index, expression in enumerate(expressions())
        ]
        (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
        promtool("check", "rules", tmp_path / "rules.yml")

    def test_the_dashboards_panels_have_a_place_each(self) -> None:
        panels = dashboard()["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        taken: set[tuple[int, int]] = set()
        for place in (panel["gridPos"] for panel in panels):
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert max(x for x, _ in cells) < 24
            assert not cells & taken
            taken |= cells


class TestKubernetes:
    """The files fit the schemas of the Kubernetes versions that they are for, and their numbers are consistent."""

    @pytest.mark.parametrize("version", ["1.30", "1.37"])
    def test_the_schemas(self, version: str) -> None:
        done = run(find_tool("kubernetes-validate"), "--strict", "-k", version, str(KUBERNETES))
        assert done.returncode == 0, done.stdout + done.stderr

    def test_the_numbers_agree(self) -> None:
        documents = load_yaml(KUBERNETES)
        (pod,) = (each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment")
        (scaler,) = (each["spec"] for each in documents if each["kind"] == "HorizontalPodAutoscaler")
        (container,) = pod["containers"]
        options = Options({})
        options.parseOptions(container["args"])
        settings = options.settings
        # A draining daemon gets the promised time.
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pod["terminationGracePeriodSeconds"] > pause + settings.drain_timeout
        # The probe that restarts must be slower than a drain, during which /healthz answers 503.
        live = container["livenessProbe"]
        assert live["periodSeconds"] * live["failureThreshold"] > settings.drain_timeout
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * MIB
        assert settings.max_connections is not None
        assert settings.max_buffered + 60 * MIB + settings.max_connections * 4096 <= limit
        (metric,) = (each["pods"] for each in scaler["metrics"])
        assert metric["metric"]["name"] in known_series()
        assert int(metric["target"]["averageValue"]) < settings.max_connections
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert [f"tcp:{port}" for port in ports.values()] == ["tcp:8080", "tcp:9090"]
        user = pod["securityContext"]
        assert f"\nUSER {user['runAsUser']}:{user['runAsGroup']}\n" in (ETC.parent / "Containerfile").read_text()
        selectors = [each["spec"]["selector"] for each in documents if each["kind"] == "Service"]
        assert all(selector.items() <= {"app.kubernetes.io/name": "echod"}.items() for selector in selectors)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES)
def test_a_proxy_waits_longer_than_echod(sample: Sample) -> None:
    settings, text = Settings(), sample.path.read_text()
    for line in sample.times:
        assert line in text
        assert float(re.split("[ =]", line)[-1].removesuffix("s")) > settings.ping_interval + settings.ping_timeout

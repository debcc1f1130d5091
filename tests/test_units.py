"""The text of the units of etc/systemd/: the instances have the same sandbox as the single service, and
docs/operating.md agrees with the files.

Knows the syntax of units. Their effect under systemd is tested in tests/system/test_systemd.py.
"""

from __future__ import annotations

import re
from pathlib import Path

from echod.core.quantities import format_duration
from echod.run.systemd import STATUS_INTERVAL
from echod.settings import Settings

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "etc/systemd"
OPERATING = (ROOT / "docs/operating.md").read_text()

OF_ONE = {"EnvironmentFile", "ExecReload", "ExecStart", "RuntimeDirectory", "SyslogIdentifier"}
"""The settings in which an instance differs from the single service."""


def service(name: str) -> dict[str, list[str]]:
    """Return the settings of a unit's section [Service], each with its values in order."""
    _, _, rest = (UNITS / name).read_text().partition("\n[Service]\n")
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Z]\w+)=(.*)$", rest.partition("\n[")[0], re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def test_an_instance_runs_like_the_single_service() -> None:
    one, instance = service("echod.service"), service("echod@.service")
    assert {key: value for key, value in one.items() if key not in OF_ONE} == {
        k: v for k, v in instance.items() if k not in OF_ONE
    }
    assert len(one) > 40
    for key in ("ExecStart", "ExecReload"):
        assert instance[key] == [line.replace(" --log", " --port systemd --log") for line in one[key]]
    assert set(one["EnvironmentFile"]) < set(instance["EnvironmentFile"])


def test_a_reload_validates_the_options_of_the_start() -> None:
    for name in ("echod.service", "echod@.service"):
        (start,), (*_, validation) = service(name)["ExecStart"], service(name)["ExecReload"]
        assert validation.replace(" --validate", "") == start


def test_a_worker_killed_for_lack_of_memory_does_not_end_the_others() -> None:
    """Without this setting systemd would stop the whole service."""
    assert service("echod.service")["OOMPolicy"] == ["continue"]


def test_a_drain_fits_into_the_time_to_stop() -> None:
    assert float(service("echod.service")["TimeoutStopSec"][0]) > Settings().drain_timeout


def test_the_document_names_each_file() -> None:
    files = {
        str(path.relative_to(ROOT / "etc"))
        for folder in ("systemd", "default")
        for path in (ROOT / "etc" / folder).iterdir()
    }
    table = "\n".join(line for line in OPERATING.splitlines() if line.startswith("| `"))
    assert files == set(re.findall(r"`((?:systemd|default)/[^`]+)`", table))


def test_the_document_has_the_figures_of_the_units() -> None:
    unit = service("echod.service")
    for name in ("WatchdogSec", "TimeoutStopSec"):
        assert re.findall(rf"`{name}=`\s\((\d+)s\)", OPERATING) == unit[name]
    assert f"not older than {format_duration(STATUS_INTERVAL)}" in OPERATING
    assert "StartLimitIntervalSec=60\nStartLimitBurst=10\n" in (UNITS / "echod.service").read_text()
    assert "10 times in a minute" in OPERATING

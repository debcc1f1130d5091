"""docs/url.md stays true: each of its lines prints what stands under it, and its tables have the limits in force.

Knows the form of that file. The effect of the parameters is tested in tests/faults/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from echod.core.quantities import format_duration, format_size
from echod.faults import kinds
from echod.faults.opening import refusal
from echod.faults.table import MAX_SEED, PARAMETERS
from echod.settings import Settings
from tests import documents
from tests.daemon import Daemon
from tests.test_readme import rows
from tests.tools import needed

TEXT = (Path(__file__).parent.parent / "docs" / "url.md").read_text()

EXAMPLES = re.findall(r"^```sh\n((?:.*\n)*?)```\n```\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)

TABLE = {re.sub("`", "", cells[0]): cells[1:] for cells in rows(TEXT) if len(cells) == 3}
"""The cells of each parameter that this page describes. docs/faults.md has all parameters."""
del TABLE["parameter"], TABLE["---"]

LATE = 10.0
"""The seconds by which a line may come late on a busy machine."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with talk.py in it."""
    path = tmp_path_factory.mktemp("url")
    (program,) = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    (path / "talk.py").write_text(program)
    documents.prepare(path)
    return path


def test_there_is_a_line_for_each_parameter() -> None:
    lines = "\n".join(line for line, _ in EXAMPLES)
    assert len(EXAMPLES) == TEXT.count("```sh\n")
    for name in TABLE:
        assert re.search(rf"[?&]{name}\b", lines), name


@pytest.mark.parametrize(
    ("line", "printed"), EXAMPLES, ids=[re.findall(r"8080/([^'\"]*)", line)[0] for line, _ in EXAMPLES]
)
def test_each_line_prints_what_it_says(daemon: Daemon, folder: Path, line: str, printed: str) -> None:
    if line.startswith("curl "):
        needed("curl")
    done = documents.run_line(line, folder, daemon.port)
    assert done.stderr == ""
    expected, got = (re.split(r"^([0-9]+\.[0-9]) s", text, flags=re.MULTILINE) for text in (printed, done.stdout))
    assert got[::2] == expected[::2]
    for wanted, seconds in zip(expected[1::2], got[1::2], strict=True):
        assert float(wanted) - 0.1 < float(seconds) < float(wanted) + LATE


def test_caps_and_parameters_are_those_in_force() -> None:
    settings, text = Settings(), " ".join(TEXT.split())
    table = TABLE
    assert table.keys() < PARAMETERS.keys()
    assert table["delay"][1] == format_duration(settings.max_delay)
    assert table["handshake-delay"][1] == format_duration(settings.max_handshake_delay)
    assert table["ping"] == [
        f"a duration, from {format_duration(settings.min_ping)}",
        format_duration(settings.max_ping),
    ]
    assert table["after"][1] == f"{settings.max_after:,}"
    assert table["seed"][1] == f"{MAX_SEED:,}"
    assert table["stall"][1] == f"kept for {format_duration(settings.max_stall)}"
    assert f"resets it after {format_duration(settings.max_stall)};" in text
    assert table["reason"][1] == f"{kinds.MAX_REASON} bytes in UTF-8"
    assert f"more than {format_size(settings.max_delayed)} of them" in text
    assert f"more than {settings.max_fragments:,} frames" in text


def test_the_documented_members_of_info_are_the_real_ones(daemon: Daemon) -> None:
    named = {name for cells in rows(TEXT) if len(cells) == 2 for name in re.findall("`([a-z]+)`", cells[0])}
    with connect(f"{daemon.url}/info") as client:
        assert json.loads(client.recv(timeout=10)).keys() == named


def test_the_documented_headers_of_refusals_are_the_real_ones() -> None:
    named = {
        int(status)
        for sentence in re.findall(r"`Retry-After` for (.*?)\.", TEXT, re.DOTALL)
        for status in re.findall("\\b[45][0-9]{2}\\b", sentence)
    }
    assert named == {status for status in range(300, 600) if refusal(status).headers}

"""docs/url.md stays true: each of its lines prints what stands under it, and its limits are those in force.

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
from echod.faults.opening import refusal
from echod.faults.table import PARAMETERS
from echod.settings import Settings
from tests import documents
from tests.daemon import Daemon
from tests.test_readme import rows
from tests.tools import needed

TEXT = (Path(__file__).parent.parent / "docs" / "url.md").read_text()

EXAMPLES = re.findall(r"^```sh\n((?:.*\n)*?)```\n```\n((?:.*\n)*?)```$", TEXT, re.MULTILINE)

DESCRIBED = {name for line in re.findall("^### .*", TEXT, re.MULTILINE) for name in re.findall("`([a-z-]+)`", line)}
"""The parameters that this page says more of. docs/faults.md has all parameters, with their values and caps."""

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
    assert PARAMETERS.keys() > DESCRIBED
    for name in DESCRIBED:
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


def test_limits_are_those_in_force() -> None:
    settings, text = Settings(), " ".join(TEXT.split())
    assert f"resets it after {format_duration(settings.max_stall)};" in text
    assert f"more than {format_size(settings.max_delayed)} of them" in text
    assert f"more than {settings.max_fragments:,} frames" in text


def test_the_table_of_faults_has_no_second_copy_here() -> None:
    assert "| parameter |" not in TEXT
    assert "[faults.md](faults.md) lists all parameters" in TEXT


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

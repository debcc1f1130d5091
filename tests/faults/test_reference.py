"""docs/faults.md is what the table says, and each of its lines runs."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

from echod.faults.table import PARAMETERS
from tests import documents
from tests.daemon import START_DEADLINE, Daemon
from tests.faults.reference import PLACE, make

URL = PLACE.parent / "url.md"


def test_the_page_is_made_from_the_table() -> None:
    assert PLACE.read_text() == make(), "python -m tests.faults.reference"


def test_each_line_runs(tmp_path: Path) -> None:
    """Each prints what a client makes of the fault, and none ends with a traceback. The server has met each
    parameter."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", URL.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "talk.py").write_text(program)
    documents.prepare(tmp_path)
    lines = re.findall(r"^```sh\n(.*)\n```$", PLACE.read_text(), re.MULTILINE)
    with Daemon("--admin", "tcp:0:interface=127.0.0.1") as daemon, ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda line: documents.run_line(line, tmp_path, daemon.port), lines))
        with urlopen(f"{daemon.admin_urls[0]}/metrics", timeout=START_DEADLINE) as answer:
            met = re.findall(r'^echod_faults_total\{fault="(.*)"\} [1-9]', answer.read().decode(), re.MULTILINE)
    assert set(met) == {name for name, row in PARAMETERS.items() if row.is_fault}
    assert [(one.args[2], one.stderr) for one in done if one.stderr or one.returncode] == []
    assert all(re.match(r"OK - " if "check" in one.args[2] else r"[0-9.]+ s  ", one.stdout) for one in done)

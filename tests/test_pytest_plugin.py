"""The pytest plugin: its fixtures here, and in a project of their own; and what it costs who does not use it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from websockets.sync.client import connect

from echod.testing import Server, Trace


def test_a_test_sees_only_its_own_connections(echod_server: Server, echod_trace: Trace) -> None:
    with connect(echod_server.url) as client:
        client.send("first")
        assert client.recv() == "first"
    (connection,) = echod_trace()
    assert [message.payload for message in connection.messages] == ["first"]


def test_so_does_the_next_test(echod_server: Server, echod_trace: Trace) -> None:
    assert echod_trace() == []
    with connect(echod_server.url) as client:
        client.send("second")
        assert client.recv() == "second"
    (connection,) = echod_trace()
    assert [message.payload for message in connection.messages] == ["second"]


def test_without_options_there_are_none(echod_options: Sequence[str]) -> None:
    assert echod_options == ()


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in a project that knows nothing of this one."""
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


def test_the_options_are_a_fixture_to_override(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        "import pytest\n\n@pytest.fixture(scope='session')\ndef echod_options():\n"
        "    return '--max-message-size', '2KiB'\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_it(echod_server):\n    assert 'max-message-size 2KiB' in echod_server.log()\n"
    )
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.fixture(scope='session')\ndef echod_options():\n    return ['--port', 'tcp:no']\n\n"
        "def test_it(echod_server): pass\n"
    )
    done = run_pytest(tmp_path)
    assert "echod: --port 'tcp:no' is not a server endpoint" in done.stdout
    assert "1 error" in done.stdout


def test_files_beside_the_test_may_have_the_names_of_modules_of_the_daemon(tmp_path: Path) -> None:
    """pytest puts the folder of a test before all others, and has its own modules by then; the daemon has not."""
    for name in ("queue.py", "selectors.py", "echod.py", "http/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "test_it.py").write_text("def test_it(echod_server): pass\n")
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_a_run_that_does_not_use_it_loads_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(): pass\n")
    (tmp_path / "conftest.py").write_text(
        "import sys\n\ndef pytest_sessionfinish():\n    print('loaded', *sorted(sys.modules), file=sys.stderr)\n"
    )

    def loaded(*arguments: str) -> set[str]:
        done = run_pytest(tmp_path, *arguments)
        assert done.returncode == 0, done.stdout
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("loaded ")]
        return set(line.split()[1:])

    assert loaded() - loaded("-p", "no:echod") == {"echod", "echod.pytest_plugin"}


@pytest.mark.parametrize("module", ["echod.testing", "echod.pytest_plugin"])
def test_each_can_be_imported_alone(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], timeout=60, check=True)

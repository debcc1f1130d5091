"""The examples of docs/testing.md, and that of the README: each is run unchanged if its tool is here, and its options
are validated if not."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.stock.readme import Readme
from tests.tools import give_up, needed

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs" / "testing.md").read_text()
DEBIAN_GO = Path("/usr/share/gocode")
NODE_MODULES = ROOT / "tests" / "interop" / "node_modules"


def example(title: str, language: str, number: int = 0) -> str:
    """Return an example under a heading."""
    section = DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found[number]


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder, with the command `echod` on the PATH."""
    environment = {**os.environ, "PATH": f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def test_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text(example("pytest", "python"))
    (tmp_path / "conftest.py").write_text(example("pytest", "python", 1))
    done = run(tmp_path, sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_one_in_the_readme(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text(Readme().program)
    done = run(tmp_path, sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_unittest(tmp_path: Path) -> None:
    (tmp_path / "test_client.py").write_text(example("unittest, and any other runner", "python"))
    done = run(tmp_path, sys.executable, "-m", "unittest")
    assert done.returncode == 0, done.stderr
    assert "Ran 1 test" in done.stderr


def test_node(tmp_path: Path) -> None:
    node = needed("node", "nodejs")
    if not (NODE_MODULES / "ws").exists():
        give_up("no Node client: make test installs it")
    (tmp_path / "client.test.mjs").write_text(example("Node", "js"))
    (tmp_path / "node_modules").symlink_to(NODE_MODULES)
    done = run(tmp_path, node, "--test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass 2" in done.stdout


def test_go(tmp_path: Path) -> None:
    """Debian has the package under its former name, and in a folder that Go reads without modules."""
    go = needed("go", "golang-go")
    if not (DEBIAN_GO / "src" / "nhooyr.io" / "websocket").exists():
        give_up("no WebSocket client for Go: apt-get install golang-nhooyr-websocket-dev")
    program = example("Go", "go").replace("github.com/coder/websocket", "nhooyr.io/websocket")
    (tmp_path / "client_test.go").write_text(program)
    settings = {"GOPATH": str(DEBIAN_GO), "GO111MODULE": "off", "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-p=2"}
    done = run(tmp_path, "env", *(f"{name}={value}" for name, value in settings.items()), go, "test", "-v")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--- PASS: TestEcho" in done.stdout


def options_in_words() -> list[list[str]]:
    """Return the options in examples whose tool may not be here."""
    of_services = re.findall(r"^ +command: \[(.*)\]$", DOCUMENT, re.MULTILINE)
    of_go = re.findall(r'exec\.Command\("echod", "serve", (.*)\)$', DOCUMENT, re.MULTILINE)
    return [json.loads(f"[{words}]") for words in (*of_services, *of_go)]


@pytest.mark.parametrize("options", options_in_words(), ids=" ".join)
def test_the_options_of_the_others_are_valid(options: list[str], tmp_path: Path) -> None:
    done = run(tmp_path, sys.executable, "-P", "-m", "echod", "serve", *options, "--validate")
    assert done.returncode == 0, done.stderr


def test_there_are_others() -> None:
    assert len(options_in_words()) == 3

"""What the benchmark runs is made only once, and is complete for all processes that ask for it at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import build
from tests.tools import needed

ASK = "import pathlib, sys; from benchmarks import build; build.BUILD = pathlib.Path(sys.argv[1]); print(build.floor())"

SLOW_COMPILER = """#!/bin/sh
echo "$$" >> {log}
for word; do [ "$before" = -o ] && product=$word; before=$word; done
printf '#!/bin/sh\\n' > "$product"
chmod +x "$product"
sleep 0.5
exec {compiler} "$@"
"""
"""A compiler whose product looks finished for half a second before it is."""


def test_simultaneous_processes_get_a_complete_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = needed("cc", "gcc")
    slow, log = tmp_path / "cc", tmp_path / "log"
    slow.write_text(SLOW_COMPILER.format(compiler=compiler, log=log))
    slow.chmod(0o755)
    monkeypatch.setenv("CC", str(slow))
    command = [sys.executable, "-c", ASK, str(tmp_path / "build")]
    asking = [subprocess.Popen(command, cwd=build.ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    for asked in asking:
        product = asked.communicate(timeout=60)[0].strip()
        assert Path(product).read_bytes().startswith(b"\x7fELF")
    assert len(log.read_text().splitlines()) == 1

"""The ready file: whole or not at all, and only while the daemon serves."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from echod.run.ready import STANDARD_OUTPUT, ReadyFile

FACTS = {"urls": ["ws://127.0.0.1:8080"], "pid": 7}


def test_the_file_appears_whole_and_goes_again(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    path.write_text('{"urls": []}')  # of an earlier start
    ready = ReadyFile(str(path))
    ready.remove_old()
    assert list(tmp_path.iterdir()) == []
    ready.remove_old()
    ready.write(FACTS)
    assert json.loads(path.read_text()) == FACTS
    assert path.read_text().endswith("}\n")
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]
    ready.remove()
    assert list(tmp_path.iterdir()) == []
    ready.remove()


def test_the_file_of_a_successor_stays(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    ready, successor = ReadyFile(str(path)), ReadyFile(str(path))
    ready.write({})
    successor.write(FACTS)
    ready.remove()
    assert json.loads(path.read_text()) == FACTS


def test_the_file_of_a_successor_stays_even_if_it_has_the_same_inode(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    ready = ReadyFile(str(path))
    ready.write({})
    path.write_text(json.dumps(FACTS))  # ext4 gives a new file the inode of one that was removed
    later = path.stat().st_mtime_ns + 10**9
    os.utime(path, ns=(later, later))
    ready.remove()
    assert json.loads(path.read_text()) == FACTS


def test_a_file_that_can_not_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "ready.json").mkdir()
    ready = ReadyFile(str(tmp_path / "ready.json"))
    with pytest.raises(OSError, match="Is a directory"):
        ready.write(FACTS)
    assert [path.name for path in tmp_path.iterdir()] == ["ready.json"]
    with pytest.raises(OSError, match="No such file"):
        ReadyFile(str(tmp_path / "none" / "ready.json")).write(FACTS)


def test_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "__stdout__", out)
    ready = ReadyFile(STANDARD_OUTPUT)
    ready.remove_old()
    ready.write(FACTS)
    ready.remove()
    assert out.getvalue() == json.dumps(FACTS) + "\n"
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OSError, match="Bad file descriptor"):
        ready.write(FACTS)


def test_without_a_place_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ready = ReadyFile()
    ready.remove_old()
    ready.write(FACTS)
    ready.remove()
    assert list(tmp_path.iterdir()) == []

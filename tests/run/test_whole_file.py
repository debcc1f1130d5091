"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from echod.run import whole_file


def test_all_users_may_read_it(tmp_path: Path) -> None:
    path, umask = tmp_path / "file", os.umask(0o077)
    try:
        for octets in (b"first", b"second"):
            whole_file.write(path, octets)
            assert (path.read_bytes(), path.stat().st_mode & 0o777) == (octets, 0o644)
    finally:
        os.umask(umask)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(IsADirectoryError):
        whole_file.write(folder, b"octets")
    with pytest.raises(FileNotFoundError):
        whole_file.write(tmp_path / "none" / "file", b"octets")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole_file.write(path, b"old")
    with path.open("rb") as open_:
        whole_file.write(path, b"new")
        assert open_.read() == b"old"


def test_a_file_is_told_from_the_next_one_at_its_path(tmp_path: Path) -> None:
    path = tmp_path / "file"
    first = whole_file.write(path, b"octets")
    assert whole_file.identify(path) == first
    assert whole_file.write(path, b"octets") != first
    assert whole_file.identify(path) != first


def test_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").touch()
    (tmp_path / "own").write_text("ours")
    (tmp_path / "other").write_text("theirs")
    (tmp_path / "link").symlink_to("own")
    (tmp_path / "dangling").symlink_to("nothing")
    os.mkfifo(tmp_path / "pipe")

    def fault(*names: str) -> str | None:
        return whole_file.fault(tmp_path.joinpath(*names), b"ours".__eq__)

    for name in ("new", "old", "own"):
        assert fault(name) is None
    for name in ("", "pipe", "link", "dangling"):
        assert fault(name) == "is not a file that could be replaced"
    assert fault("other") == "is a file that echod has not written: remove it, or choose another path"
    assert fault("none", "file") == "is in a folder that does not exist"
    assert fault("old", "file") == "is in a folder that does not exist"
    assert fault("x" * 300) == "can't be read: File name too long"
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert fault("new") == "is in a folder that may not be written"

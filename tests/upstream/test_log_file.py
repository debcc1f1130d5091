"""twistd's log file, and why echod has a class of its own for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from twisted.python.logfile import LogFile

from echod.upstream.log_file import AppendedLogFile


@pytest.mark.parametrize(("kind", "is_appended"), [(LogFile, False), (AppendedLogFile, True)])
def test_lines_of_two_processes_in_one_file(kind: type[LogFile], is_appended: bool, tmp_path: Path) -> None:
    first, second = (kind.fromFullPath(str(tmp_path / "log")) for _ in range(2))
    for log, line in ((first, "one\n"), (second, "two\n"), (first, "three\n")):
        log.write(line)
    assert ((tmp_path / "log").read_text() == "one\ntwo\nthree\n") is is_appended
    for log in (first, second):
        log.close()


@pytest.mark.parametrize(("kind", "is_appended"), [(LogFile, False), (AppendedLogFile, True)])
def test_a_file_that_is_cut_while_it_is_open(kind: type[LogFile], is_appended: bool, tmp_path: Path) -> None:
    """logrotate's copytruncate does this."""
    path = tmp_path / "log"
    path.write_text("before\n")
    log = kind.fromFullPath(str(path))
    log.write("copied\n")
    path.write_text("")
    log.write("after\n")
    assert (path.read_text() == "after\n") is is_appended
    log.close()


def test_it_appends_to_a_new_file_as_well(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AppendedLogFile.fromFullPath(str(path))
    log.write("old\n")
    log.rotate()
    log.write("new\n")
    path.write_text("")
    log.write("newest\n")
    log.close()
    assert (path.read_text(), (tmp_path / "log.1").read_text()) == ("newest\n", "old\n")

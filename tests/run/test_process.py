"""This process: its pid file, its limit on descriptors, and how a failed start ends it."""

from __future__ import annotations

import io
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from echod.run.process import (
    MOST_DESCRIPTORS,
    CannotStartError,
    fail_at_exit,
    folder_fault,
    pid_file_fault,
    refuse_to_start,
    set_descriptor_limit,
)

OWN = os.getpid()

FOREIGN = 1
"""A process that exists, and is not this one."""


def test_a_refusal_is_one_line_and_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    others: list[Any] = []
    monkeypatch.setattr(sys, "__stderr__", err)
    monkeypatch.setattr(sys, "excepthook", lambda *error: others.append(error))
    with capturedLogs() as events, pytest.raises(CannotStartError, match=r"^one two$") as error:
        refuse_to_start("one\ntwo")
    assert [formatEvent(event) for event in events] == ["one two"]
    sys.excepthook(CannotStartError, error.value, None)
    assert err.getvalue() == "echod: one two\n"
    sys.excepthook(ValueError, ValueError(), None)
    assert len(others) == 1


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "holds no process id"),
        ("\xff", "holds no process id"),
        ("99999999999", "holds no process id"),
        ("0", "holds no process id"),
        # The id is fixed: it has to be the same in every process of pytest-xdist.
        pytest.param(
            f"{os.getpid()}\n", f"is of an earlier process with the same id as this one, {os.getpid()}", id="own"
        ),
        (f"{FOREIGN}", f"says that process {FOREIGN} runs already"),
        ("999999999", None),
        (None, None),
    ],
)
def test_a_pid_file_that_twistd_would_stop_at(text: str | None, fault: str | None, tmp_path: Path) -> None:
    path = tmp_path / "twistd.pid"
    if text is not None:
        path.write_text(text, "latin-1")
    found = pid_file_fault(path)
    assert found == fault if fault is None else str(found).startswith(fault)


def test_a_pid_file_that_can_not_be_read_or_written(tmp_path: Path) -> None:
    assert pid_file_fault(tmp_path) == "can't be read: Is a directory"
    assert pid_file_fault(tmp_path / "no" / "twistd.pid") == "can't be written"
    (tmp_path / "link").symlink_to(tmp_path / "no" / "twistd.pid")
    assert pid_file_fault(tmp_path / "link") == "can't be written"


def test_a_process_of_another_user_counts_as_running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def kill(_: int, __: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    other = os.getpid() + 1
    (tmp_path / "twistd.pid").write_text(str(other))
    told = f"says that process {other} runs already: stop that process, or remove the file if it is another program"
    assert pid_file_fault(tmp_path / "twistd.pid") == told


def test_folders_that_twistd_can_not_use(tmp_path: Path) -> None:
    root, missing = str(tmp_path), str(tmp_path / "no")
    assert folder_fault(None, None) is None
    assert folder_fault(None, root) is None
    assert folder_fault(None, missing) == f"--rundir {missing}: there is no such folder"
    assert folder_fault(root, missing) == f"--rundir {missing}: there is no such folder"
    assert folder_fault(root, None) == f"--chroot {root}: Twisted needs a dev/null there"
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "null").touch()
    assert folder_fault(root, "/dev") is None


@pytest.mark.parametrize("before", [500, 1500])
@pytest.mark.parametrize("reactor", [Clock(), SelectReactor.__new__(SelectReactor)], ids=["any reactor", "select"])
def test_the_limit_on_descriptors_is_what_the_reactor_can_use(before: int, reactor: Any) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 1024 if isinstance(reactor, SelectReactor) else MOST_DESCRIPTORS
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(before, hard), hard))
        assert set_descriptor_limit(reactor) == min(hard, most)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, most), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize(
    ("before", "hard", "most", "found"),
    [
        (256, resource.RLIM_INFINITY, 2**30, MOST_DESCRIPTORS),
        # macOS: its kernel has a limit of its own and refuses more.
        (256, resource.RLIM_INFINITY, 10_240, 8192),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10_240, 8192),
        (8000, resource.RLIM_INFINITY, 8000, 8000),
        # The limit can't be changed at all.
        (300, 5000, 0, 300),
    ],
)
def test_the_limit_on_descriptors_is_what_the_system_allows(
    monkeypatch: pytest.MonkeyPatch, before: int, hard: int, most: int, found: int
) -> None:
    def set_limit(_: int, limits: tuple[int, int]) -> None:
        if not 0 < limits[0] <= most:
            raise ValueError("current limit exceeds maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (before, hard))
    monkeypatch.setattr(resource, "setrlimit", set_limit)
    with capturedLogs() as events:
        assert set_descriptor_limit(Clock()) == found
    wanted = min(hard, MOST_DESCRIPTORS) if hard > 0 else MOST_DESCRIPTORS
    lines = [formatEvent(event) for event in events]
    assert lines == (
        [] if found == wanted else [f"the system allows this process {found} descriptors instead of {wanted}"]
    )


def test_a_failed_start_ends_with_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    at_exit: list[Callable[[], object]] = []
    statuses: list[int] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    monkeypatch.setattr(os, "_exit", statuses.append)
    fail_at_exit()
    assert not statuses
    (end,) = at_exit
    end()
    assert statuses == [1]

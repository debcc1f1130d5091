"""The output of a command: whole, or one line on standard error."""

from __future__ import annotations

import io
import os
from pathlib import Path

from echod.core.output import write


def test_output_is_written(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out:
        assert write("hello\n", out, None) == 0
        assert (tmp_path / "out").read_text() == "hello\n"


def test_output_that_can_not_be_written_is_one_line() -> None:
    error = io.StringIO()
    with open("/dev/full", "w") as full:  # with a buffer, as in a process: only the flush fails
        assert write("hello\n", full, error) == os.EX_IOERR
    assert error.getvalue() == "echod: can't write to standard output: No space left on device\n"


def test_a_closed_output_is_one_line() -> None:
    error = io.StringIO()
    assert write("hello\n", None, error) == os.EX_IOERR
    assert error.getvalue() == "echod: can't write to standard output: Bad file descriptor\n"


def test_without_standard_error_the_status_is_left() -> None:
    assert write("hello\n", None, None) == os.EX_IOERR
    with open("/dev/full", "w", buffering=1) as full:
        assert write("hello\n", None, full) == os.EX_IOERR
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that closing `full` succeeds

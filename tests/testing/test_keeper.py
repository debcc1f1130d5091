"""The keeper: the process ends when the pipe does, and nothing is left."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from echod.testing import keeper
from tests.daemon import wait_until

READY = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()\n"


class Kept:
    """A program that is kept by a thread of this process."""

    def __init__(self, folder: Path, program: str, deadline: float = keeper.STOP_DEADLINE) -> None:
        folder.mkdir()
        self.folder = folder
        reader, self._writer = os.pipe()
        command = [sys.executable, "-c", READY + program, str(folder / "ready")]
        self._thread = threading.Thread(target=self._keep, args=(command, reader, deadline))
        self._thread.start()

    def _keep(self, command: Sequence[str], reader: int, deadline: float) -> None:
        with open(reader, "rb"):
            keeper.keep(self.folder, command, reader, deadline)

    def wait_for(self, name: str) -> str:
        """Wait for a file in the folder, and return its text."""
        wait_until((self.folder / name).exists, name)
        return (self.folder / name).read_text()

    def end(self) -> None:
        """End the pipe, and assert that nothing is left."""
        os.close(self._writer)
        self._thread.join()
        assert not self.folder.exists()


def test_the_end_of_the_pipe_is_sigterm(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    kept = Kept(
        tmp_path / "kept",
        "import signal, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (open({str(proof)!r}, 'w').close(), sys.exit()))\n"
        "pathlib.Path(sys.argv[1] + '2').touch()\n"
        "while True: time.sleep(1)",
    )
    kept.wait_for("ready2")
    kept.end()
    assert proof.exists()


def test_a_process_that_does_not_end_is_killed(tmp_path: Path) -> None:
    kept = Kept(
        tmp_path / "kept",
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path(sys.argv[1] + '2').touch()\n"
        "while True: time.sleep(1)",
        deadline=0.1,
    )
    kept.wait_for("ready2")
    kept.end()


def test_the_status_of_a_process_that_ends_by_itself_is_noted(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept", "sys.exit(3)")
    wait_until(lambda: kept.wait_for(keeper.ENDED), "the status")
    assert kept.wait_for(keeper.ENDED) == "3"
    kept.end()


def test_no_signal_ends_the_keeper_before_the_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: dict[int, Any] = {}
    kept: list[Any] = []
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    monkeypatch.setattr(keeper, "keep", lambda *words: kept.extend(words))
    with (tmp_path / "input").open("w+") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        keeper.main([str(tmp_path), "echod", "serve"])
        assert kept == [tmp_path, ["echod", "serve"], stream.fileno()]
    assert set(handlers) == {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    for number, handler in handlers.items():
        assert handler(number, None) is None

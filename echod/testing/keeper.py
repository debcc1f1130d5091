"""The keeper: a process between a test and its daemon, which ends the daemon when the test ends, however it ends.

The test holds one end of a pipe, the keeper reads the other. The pipe ends when the test closes it, and also when the
kernel closes it because the test was killed. Then the keeper stops the daemon and removes its folder. PR_SET_PDEATHSIG
would not do: it acts when the thread ends that started the daemon, and it removes no folder.

Knows a pipe, a process and a folder. Must never know what the process does.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

ENDED = "ended"
"""The file in the folder that gets the exit status of a daemon that ends."""

STOP_DEADLINE = 60.0
"""Seconds from SIGTERM to SIGKILL. A test may ask for a long `--drain-timeout`."""


def keep(folder: Path, command: Sequence[str], pipe: int, deadline: float = STOP_DEADLINE) -> None:
    """Run `command`, which prints where this process does, until `pipe` ends. Then stop it, and remove `folder`.

    It gets `deadline` seconds from SIGTERM to SIGKILL.
    """
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    watch = threading.Thread(target=lambda: (folder / ENDED).write_text(str(process.wait())))
    watch.start()
    os.read(pipe, 1)  # nobody writes: this returns at the end
    process.terminate()
    watch.join(deadline)
    process.kill()
    watch.join()
    shutil.rmtree(folder)


def main(arguments: Sequence[str]) -> None:
    """Keep the command that follows the folder, until standard input ends."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the pipe ends the keeper: what is sent to all processes must not leave the daemon alone. A
        # handler is not inherited. A daemon that ignored SIGTERM until it serves could not be stopped before.
        signal.signal(number, lambda *_: None)
    keep(Path(arguments[0]), arguments[1:], sys.stdin.fileno())

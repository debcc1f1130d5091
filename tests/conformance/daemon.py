"""Starts and ends the daemon under test as a user would, and says what was wrong with how it ran.

Knows ``twistd``'s command line, processes and log files. Must never know what is asked of the daemon in between.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

HOST = "127.0.0.1"
# Generous: two cores may be starting the daemons of two other runs.
START_SECONDS = 60
# Longer than any drain that the daemon may grant its clients; the suite has left by then.
STOP_SECONDS = 30
POLL_SECONDS = 0.05

LISTENING = re.compile(rf"listening on wss?://{re.escape(HOST)}:(\d+)")

# What Twisted writes for an exception that reached the reactor or a Deferred that nobody looked after.
LOG_FAULTS = ("Traceback", "Unhandled Error")


class DaemonError(Exception):
    """The daemon did not start; the text holds the end of its log."""


def command_line(arguments: Sequence[str], certificate: Path | None = None) -> list[str]:
    """``twistd -n --pidfile= echod --port …``, on any port; words before an ``echod`` among the arguments are twistd's."""
    endpoint = f"ssl:0:privateKey={certificate}:interface={HOST}" if certificate else f"tcp:0:interface={HOST}"
    beside = Path(sys.executable).with_name("twistd")
    twistd = str(beside) if beside.exists() else shutil.which("twistd") or "twistd"
    cut = list(arguments).index("echod") if "echod" in arguments else 0
    rest = arguments[cut + 1 :] if "echod" in arguments else arguments
    return [twistd, "-n", "--pidfile=", *arguments[:cut], "echod", "--port", endpoint, *rest]


def log_faults(text: str) -> list[str]:
    """One line for each kind of fault that a daemon's log tells of."""
    return [f"the daemon's log has {word!r} {text.count(word)} times" for word in LOG_FAULTS if word in text]


@asynccontextmanager
async def running_daemon(
    arguments: Sequence[str], cwd: Path, log: Path, faults: list[str], certificate: Path | None = None
) -> AsyncIterator[int]:
    """A daemon that listens on the port that is given for as long as the block runs; what was wrong with it is added to the faults.

    It inherits the environment, so that AUTOBAHN_USE_NVX, ECHOD_NATIVE and the like reach it.
    """
    command = command_line(arguments, certificate)
    with log.open("wb") as output:
        try:
            # A session of its own: Ctrl-C at the terminal is for the runner, which then ends the daemon in good order.
            process = await asyncio.create_subprocess_exec(
                *command, cwd=cwd, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        except OSError as error:
            raise DaemonError(f"can't run {command[0]}: {error}") from error
    listening = False
    try:
        port = await _wait_until_listening(process, log)
        listening = True
        yield port
    finally:
        end_faults = await _end(process)
        # What kept it from listening is on its way to the caller as a DaemonError; that it ended follows from it.
        faults += end_faults if listening else []
        faults += log_faults(log.read_text(errors="replace"))


async def _wait_until_listening(process: asyncio.subprocess.Process, log: Path) -> int:
    """Wait for the line in which the daemon says where it listens, and return the port."""
    try:
        async with asyncio.timeout(START_SECONDS):
            while not (listening := LISTENING.search(log.read_text(errors="replace"))):
                if process.returncode is not None:
                    raise DaemonError(f"the daemon ended with status {process.returncode} before it listened:\n{_tail(log)}")
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise DaemonError(f"the daemon did not listen within {START_SECONDS} s:\n{_tail(log)}") from None
    return int(listening[1])


async def _end(process: asyncio.subprocess.Process) -> list[str]:
    """End the daemon by its process id; say so if it had ended before, or would not."""
    if process.returncode is not None:
        return [f"the daemon ended by itself with status {process.returncode}"]
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            status = await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
        return [f"the daemon was still there {STOP_SECONDS} s after SIGTERM"]
    # twistd shuts down in order and then lets the signal end it, so that a supervisor sees why.
    return [] if status in {0, -signal.SIGTERM} else [f"the daemon ended with status {status} after SIGTERM"]


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-10:])

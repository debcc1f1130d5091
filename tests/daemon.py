"""A real daemon for a test: started as a user starts it, and checked for a clean end.

    with Daemon("--max-message-size", "1KiB") as daemon:
        ...  # connect to daemon.url
    # SIGTERM was sent, the exit status was 0, and the log holds no traceback

Knows the programs that run echod, processes, signals and log files. Must never know what a test asks of the running
daemon.
"""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit


def script(name: str) -> str:
    """Return the path of a console script in the environment that the tests run in."""
    return str(Path(sysconfig.get_path("scripts")) / name)


Program = Literal["echod", "twistd", "twist"]

COMMANDS: dict[Program, tuple[str, ...]] = {
    "echod": (sys.executable, "-m", "echod"),
    "twistd": (script("twistd"), "-n", "--pidfile="),
    "twist": (script("twist"),),
}
"""How each program is started in the foreground."""

WORDS: dict[Program, str] = {"echod": "serve", "twistd": "echod", "twist": "echod"}
"""The word after which the daemon's options follow."""

DEFAULT_PORTS = ("tcp:0:interface=127.0.0.1",)

REACTOR_VARIABLE = "ECHOD_TEST_REACTOR"
"""The environment variable that names the reactor of daemons whose test chooses none."""

START_DEADLINE = 120.0
"""Time limit in seconds for a start, which takes about one. The two cores may be busy with other runs."""

STOP_DEADLINE = 30.0
"""Time limit in seconds for a stop: longer than any drain whose time-out the test does not set itself."""

POLL_INTERVAL = 0.01

# What Python and Twisted log for an exception that nobody caught. Also a NUL, because a NUL makes a log a binary file.
_FAULTS = re.compile(r"^.*(?:Traceback \(most recent call last\)|Unhandled error|Unhandled Error|\0).*$", re.MULTILINE)

# A "listening on" line in any log format.
_LISTENING = re.compile(r'listening on ([^\s"]+)')

# The last line of the start-up.
_LIMITS = re.compile(r"echod [0-9.]+[^\s:]*: max-message-size ")

# Pass sockets as systemd does: from descriptor 3 on, to the process with this pid. They are first moved out of the way.
_PASS = """
import fcntl, os, sys
count = int(sys.argv[1])
aside = [fcntl.fcntl(int(word), fcntl.F_DUPFD_CLOEXEC, 3 + count) for word in sys.argv[2 : 2 + count]]
for to, moved in enumerate(aside, 3):
    os.dup2(moved, to)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count)}
os.execv(sys.argv[2 + count], sys.argv[2 + count :])
"""


def run(
    *command: str, cwd: Path | str | None = None, env: Mapping[str, str] | None = None, deadline: float = START_DEADLINE
) -> subprocess.CompletedProcess[str]:
    """Run a command that ends by itself. Its output is text, and the caller judges its exit status."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=deadline,
        check=False,
    )


def wait_until(is_so: Callable[[], object], what: str, deadline: float = START_DEADLINE) -> None:
    """Return as soon as `is_so()` is true. After `deadline` seconds fail with a message that names `what` was
    awaited."""
    end = time.monotonic() + deadline
    while not is_so():
        assert time.monotonic() < end, f"waited {deadline} s for {what}"
        time.sleep(POLL_INTERVAL)


class Daemon:
    """A context manager that runs a daemon with echod's `options` in a temporary folder, `folder`.

    - `ports`: endpoint strings, each passed as `--port`. Port 0 lets the kernel choose.
    - `program`: `echod` (run as `echod serve`), `twistd` (run as `twistd -n --pidfile=`) or `twist`. `program_options`
      precede echod's own on its command line.
    - `reactor`: the name for `--reactor`. The default is the value of ECHOD_TEST_REACTOR, if that is set.
    - `has_log_file`: write the log to a file in `folder` instead of standard output.
    - `is_daemonized`: run without `-n`, with a pid file and a log file in `folder`.
    - `uid`: give up privileges and become this user, who then owns `folder`.
    - `sockets`: listening sockets to pass as systemd passes them, without names.
    - `env`: added to the environment, for ECHOD_NATIVE, AUTOBAHN_USE_NVX and the like.
    """

    def __init__(
        self,
        *options: str,
        ports: Sequence[str] = DEFAULT_PORTS,
        program: Program = "twistd",
        program_options: Sequence[str] = (),
        reactor: str | None = None,
        has_log_file: bool = False,
        is_daemonized: bool = False,
        uid: int | None = None,
        sockets: Sequence[socket.socket] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._options = [*(word for port in ports for word in ("--port", port)), *options]
        self._port_count = len(ports)
        self._program: Program = program
        reactor = reactor or os.environ.get(REACTOR_VARIABLE)
        self._program_options = [*([f"--reactor={reactor}"] if reactor else []), *program_options]
        self._has_log_file = has_log_file or is_daemonized
        self._is_daemonized = is_daemonized
        self._uid = uid
        self._descriptors = [passed.fileno() for passed in sockets]
        self._env = {**os.environ, **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._has_ended = False
        self.pid = 0
        self.status: int | None = None
        """The exit status once the daemon has ended; negative: the signal that killed it; None: unknown, because the
        daemon is daemonized."""

    # The start.

    def __enter__(self) -> Self:
        """Start the daemon and wait until it serves."""
        self._folder = tempfile.TemporaryDirectory(prefix="echod-test-")
        self.folder = Path(self._folder.name)
        if self._uid is not None:
            os.chown(self.folder, self._uid, -1)
        try:
            self._start()
        except BaseException as error:
            error.add_note(self._describe())
            self._clean_up()
            raise
        return self

    @property
    def command(self) -> list[str]:
        """The command line."""
        passed = (
            [sys.executable, "-c", _PASS, *map(str, (len(self._descriptors), *self._descriptors))]
            if self._descriptors
            else []
        )
        before, after = (self._program_options, []) if self._program != "echod" else ([], self._program_options)
        return [*passed, *self._run_command(), *before, WORDS[self._program], *after, *self._options]

    def _run_command(self) -> list[str]:
        log = (
            [f"--{'logfile' if self._program == 'twistd' else 'log-file'}={self._log_path}"]
            if self._has_log_file
            else []
        )
        if self._program != "twistd":
            return [*COMMANDS[self._program], *log]
        user = [] if self._uid is None else [f"--uid={self._uid}"]
        start = [script("twistd"), f"--pidfile={self.pid_path}"] if self._is_daemonized else COMMANDS["twistd"]
        return [*start, *user, *log]

    def _start(self) -> None:
        with self._output_path.open("wb") as output:
            # Use a new session: Ctrl-C at the terminal interrupts only the tests, which then stop the daemon cleanly.
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=self._descriptors,
            )
        if self._is_daemonized:
            status = self._process.wait(START_DEADLINE)
            assert status == 0, f"twistd ended with {status} instead of daemonizing"
            self.pid = int(self.pid_path.read_text())
        else:
            self.pid = self._process.pid
        # A pidfd can't come to mean another process that got the same pid.
        self._pidfd = os.pidfd_open(self.pid)
        wait_until(self._is_serving, "the daemon to listen")

    def _is_serving(self) -> bool:
        assert not self.has_ended(), f"the daemon ended by itself with {self.status}"
        return (
            _LIMITS.search(self.log()) is not None and len(self.urls) >= self._port_count and _is_in_its_loop(self.pid)
        )

    # What a test asks.

    @property
    def urls(self) -> list[str]:
        """The addresses that the daemon logged as listening, in the order of `ports`: `ws://…` or `unix:…`."""
        return _LISTENING.findall(self.log())

    @property
    def admin_urls(self) -> list[str]:
        """The addresses of the admin site, in the order of the options: `http://…` or `unix:…`."""
        return re.findall(r'admin on ([^\s"]+)', self.log())

    @property
    def url(self) -> str:
        """The first of `urls`."""
        return self.urls[0]

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first TCP endpoint, as `socket.create_connection` takes them."""
        url = urlsplit(next(url for url in self.urls if "://" in url))
        assert url.hostname is not None
        assert url.port is not None
        return url.hostname, url.port

    @property
    def port(self) -> int:
        """The number of the first TCP port."""
        return self.address[1]

    @property
    def pid_path(self) -> Path:
        """The pid file of a daemonized daemon."""
        return self.folder / "twistd.pid"

    @property
    def _output_path(self) -> Path:
        return self.folder / "output"

    @property
    def _log_path(self) -> Path:
        return self.folder / "daemon.log" if self._has_log_file else self._output_path

    def output(self) -> str:
        """Return what the daemon has printed so far on standard output and standard error."""
        return self._output_path.read_text(errors="replace")

    def log(self) -> str:
        """Return what the daemon has logged so far. Without a log file this is all that the daemon printed."""
        # There is no log file until the daemon has created it.
        return self._log_path.read_text(errors="replace") if self._log_path.exists() else ""

    def wait_for_log(self, pattern: str, deadline: float = START_DEADLINE) -> re.Match[str]:
        """Wait until the log matches `pattern`, and return the first match."""
        wait_until(lambda: re.search(pattern, self.log()), f"{pattern!r} in the log", deadline)
        match = re.search(pattern, self.log())
        assert match is not None
        return match

    def has_ended(self) -> bool:
        """Tell whether the process has ended, for any reason."""
        return self._wait(0)

    # The end.

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal without waiting for its effect."""
        signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, deadline: float = STOP_DEADLINE) -> int | None:
        """Wait until the daemon has ended, and return its `status`."""
        assert self._wait(deadline), f"the daemon still runs after {deadline} s\n{self._describe()}"
        return self.status

    def stop(self, number: signal.Signals = signal.SIGTERM, deadline: float = STOP_DEADLINE) -> float:
        """End the daemon, and assert a clean end: in time, with exit status 0 and without a traceback in the log.

        Return the seconds that the end took.
        """
        assert not self.has_ended(), f"the daemon ended by itself with {self.status}\n{self._describe()}"
        start = time.monotonic()
        self.send_signal(number)
        status = self.wait(deadline)
        seconds = time.monotonic() - start
        assert not status, f"the daemon ended with {status}\n{self._describe()}"
        self.assert_no_faults()
        return seconds

    def assert_no_faults(self) -> None:
        """Assert that the log holds no traceback."""
        fault = _FAULTS.search(self.log())
        assert fault is None, f"a fault in the log: {fault[0]}\n{self._describe()}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the daemon if the test has not. A failure of the test itself takes precedence."""
        try:
            if error is not None:
                error.add_note(self._describe())
            elif self._has_ended:
                self.assert_no_faults()
            else:
                self.stop()
        finally:
            self._clean_up()

    def _wait(self, deadline: float) -> bool:
        if self._has_ended:
            return True
        if self._is_daemonized:
            self._has_ended = bool(select.select([self._pidfd], [], [], deadline)[0])
        else:
            assert self._process is not None
            with suppress(subprocess.TimeoutExpired):
                self.status = self._process.wait(deadline)
            self._has_ended = self.status is not None
        return self._has_ended

    def _clean_up(self) -> None:
        if self._pidfd >= 0:
            if not self.has_ended():
                self.send_signal(signal.SIGKILL)
                self._wait(STOP_DEADLINE)
            os.close(self._pidfd)
        elif self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def _describe(self) -> str:
        lines = self.log().splitlines() or self.output().splitlines()
        return "\n".join([" ".join(self.command), *lines[-40:]])


def _is_in_its_loop(pid: int) -> bool:
    """Tell whether the process sleeps and has a handler for SIGTERM. The reactor then runs, and a signal ends the
    process cleanly.

    Between the last line of the start-up and the reactor's first turn, SIGTERM still kills the process.
    """
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return status["State"].startswith("S") and bool(int(status["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1)

"""`Server`: a daemon for a test, started as a user would start it, and gone when the test is.

Knows the command line, the ready file and the keeper. Must never know what a test does with the daemon.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn, Self

from echod.testing import keeper
from echod.testing.trace import POLL_INTERVAL, Trace

PORTS = ("tcp:0:interface=127.0.0.1", "throwaway:0:interface=127.0.0.1")
"""What every server listens on: ws:// and wss:// on ports that the system chooses. Nobody else can reach them."""

DEFAULTS = ("--drain-timeout", "1s", "--handshake-timeout", "1m", "--log-frames-rate", "999999999")
"""What options of the test may change. A client that a test left open must not keep the suite waiting, a machine that
runs many tests may stall a client for longer than 5 s, and no frame is to be missing from the trace: this is the
highest rate there is."""

REQUIRED = ("--log-frames", "--log-messages", "--log-format", "json")
"""What they may not: the trace is in this log."""


FIRST = (Path(os.__file__).parent, Path(os.__file__).parent / "lib-dynload", Path(keeper.__file__).parents[2])
"""Where the daemon finds Python's own modules, its own, and as a rule those that it needs. pytest puts the folder of a
test before all others, and that folder may have a file `queue.py` or a folder `http`."""

KEEP = "import sys; from echod.testing import keeper; keeper.main(sys.argv[1:])"
"""The program of the keeper."""


class StartError(Exception):
    """The daemon does not start. The message has its log."""


class Server:
    """A context manager that runs a daemon: `python -m echod serve`, with `options` of its own command line.

    A `--port` among them is one more port; `urls` has all. A relative path is seen from the current folder. The server
    may be started from any thread, and used from any number of them. Starting and stopping block the calling thread,
    for about a second and for some milliseconds; asyncio tests use it like any other context manager.

    Raises `StartError` if the daemon ends, or does not serve within `timeout` seconds.
    """

    def __init__(self, *options: str, timeout: float = 60.0) -> None:
        self._options = options
        self._timeout = timeout
        self._keeper: subprocess.Popen[bytes] | None = None
        self.urls: tuple[str, ...] = ()
        """Where the daemon listens: `url`, `tls_url`, and those of the options, in their order."""
        self.admin_urls: tuple[str, ...] = ()
        """Where the admin site is, for each `--admin`."""
        self.pid = 0

    # The start.

    def __enter__(self) -> Self:
        """Start the daemon, and wait until it serves."""
        if self._keeper is not None:
            raise RuntimeError("this Server runs already; make another Server for another daemon")
        self._folder = Path(tempfile.mkdtemp(prefix="echod-"))
        self._authority, self._log = self._folder / "authority.pem", self._folder / "log"
        self._trace = Trace(self._log)
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def _start(self) -> None:
        ready = self._folder / "ready.json"
        ports = [word for port in PORTS for word in ("--port", port)]
        files = ["--ready-file", str(ready), "--authority-file", str(self._authority)]
        # -P makes Python take the installed module, and not a file of that name in the current folder. The environment
        # has whatever else this process can import.
        path = [*FIRST, *(Path(folder).absolute() for folder in sys.path)]
        python = [sys.executable, "-P"]
        serve = [*python, "-m", "echod", "serve", *ports, *DEFAULTS, *self._options, *REQUIRED, *files]
        with self._log.open("wb") as log:
            # A session of its own, because Ctrl-C at the terminal is for the tests, which then stop the daemon.
            self._keeper = subprocess.Popen(
                [*python, "-c", KEEP, str(self._folder), *serve],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
                start_new_session=True,
            )
        facts = self._wait_for(ready)
        self.urls, self.admin_urls, self.pid = tuple(facts["urls"]), tuple(facts["admin_urls"]), facts["pid"]

    def _wait_for(self, ready: Path) -> dict[str, Any]:
        ended = self._folder / keeper.ENDED
        deadline = time.monotonic() + self._timeout
        while not ready.exists():
            assert self._keeper is not None
            if ended.exists() or self._keeper.poll() is not None:
                self._refuse("echod ended instead of serving")
            if time.monotonic() > deadline:
                self._refuse(f"echod does not serve after {self._timeout:g} s")
            time.sleep(POLL_INTERVAL)
        facts: dict[str, Any] = json.loads(ready.read_text())
        return facts

    def _refuse(self, why: str) -> NoReturn:
        raise StartError(f"{why}. It printed:\n{self.log()}")

    # The end.

    def __exit__(self, *_: object) -> None:
        """Stop the daemon, and remove its folder."""
        self._stop()

    def _stop(self) -> None:
        if self._keeper is not None:
            with self._keeper:  # this closes the pipe, and waits for the end of the keeper
                pass
            self._keeper = None
        # The keeper has removed the folder, if there was one.
        shutil.rmtree(self._folder, ignore_errors=True)

    # What a test asks. It has an answer only while the daemon runs.

    def _check_it_runs(self) -> None:
        if self._keeper is None:
            raise RuntimeError("this Server does not run: use it inside its block, `with Server() as server:`")

    @property
    def url(self) -> str:
        """The URL of the plain port, such as `ws://127.0.0.1:40521`. Paths and parameters may follow."""
        self._check_it_runs()
        return self.urls[0]

    @property
    def tls_url(self) -> str:
        """The URL of the port with TLS, such as `wss://127.0.0.1:37263`. Its certificate is for `localhost`, too."""
        self._check_it_runs()
        return self.urls[1]

    @property
    def http2_url(self) -> str:
        """The URL of the port with TLS for a client of HTTP/2, such as `https://127.0.0.1:37263`. Such a client asks
        for `h2` (ALPN), and opens its WebSockets there as streams."""
        return self.tls_url.replace("wss:", "https:", 1)

    @property
    def authority(self) -> Path:
        """The certificate that a client has to trust for `tls_url`, as a PEM file. It differs with each start."""
        self._check_it_runs()
        return self._authority

    @property
    def trace(self) -> Trace:
        """Call `trace()` for all connections since the start."""
        self._check_it_runs()
        return self._trace

    def new_trace(self) -> Trace:
        """Return a trace that begins now: it has only connections that are opened from now on."""
        self._check_it_runs()
        return Trace(self._log, self._log.stat().st_size)

    def log(self) -> str:
        """Return what the daemon has logged so far, a JSON object on each line."""
        self._check_it_runs()
        return self._log.read_text(errors="replace")

"""The fuzzing server of the Autobahn testsuite, which misbehaves in a numbered case for each connection.

Knows how to run the server and how to read its report. Must never know echod.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect

from tests.conformance.suite import SERVER, Suite
from tests.daemon import wait_until
from tests.frames import CLOSE, handshake
from tests.ports import held_port

PATIENCE = 120.0
"""Time limit in seconds for each wait. The two cores may be busy with other runs."""


class FuzzingServer:
    """A context manager that runs the server with these cases, in an empty folder."""

    def __init__(self, suite: Suite, cases: Sequence[str], folder: Path) -> None:
        self.cases = cases
        self.folder = folder
        self._call = suite.invocation(folder, SERVER)
        self._port = held_port()

    def __enter__(self) -> Self:
        self.port = self._port.__enter__()
        names = ("exclude-cases", "exclude-agent-cases")
        spec = {"url": f"ws://127.0.0.1:{self.port}", "outdir": self._call.outdir, "cases": self.cases}
        (self.folder / "spec.json").write_text(json.dumps({**spec, **dict(zip(names, ([], {}), strict=True))}))
        with (self.folder / "wstest.log").open("wb") as output:
            self._process = subprocess.Popen(
                self._call.command,
                cwd=self.folder,
                env=self._call.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        wait_until(self._listens, "the fuzzing server", PATIENCE)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._call.abort:
            subprocess.run(self._call.abort, stdout=subprocess.DEVNULL, check=False)
        else:
            self._process.kill()
        self._process.wait()
        self._port.__exit__(None, None, None)

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self.folder / "wstest.log").read_text()
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def _path(self, case: str, agent: str) -> str:
        return f"/runCase?casetuple={case}&agent={agent}"

    def url(self, case: str, agent: str) -> str:
        """Return where a client meets the case. `agent` is the name under which the report has it."""
        return f"ws://127.0.0.1:{self.port}{self._path(case, agent)}"

    def octets(self, case: str, wanted: bytes) -> bytes:
        """Return what the server sends behind its answer, up to and with `wanted`, or up to the end."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as client:
            request = handshake(self._path(case, "octets"))
            client.sendall(request.replace(b"Host: localhost", b"Host: 127.0.0.1:%d" % self.port))
            while wanted not in received and (piece := client.recv(65536)):
                received += piece
        head, _, octets = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return octets

    def codes(self, agent: str) -> dict[str, int | None]:
        """Return the code of each Close frame that the client sent, by the case; None: it sent none, none with a code
        (1005 stands for that, RFC 6455 section 7.1.5), or none until the server had waited in vain for the client to
        fail the connection."""
        with connect(f"ws://127.0.0.1:{self.port}/updateReports?agent={agent}", proxy=None) as client:
            assert list(client) == []
        index = json.loads((self.folder / "index.json").read_text())[agent]
        told = {case: json.loads((self.folder / row["reportfile"]).read_text()) for case, row in index.items()}
        return {case: _code(one["wirelog"]) for case, one in told.items()}


def _code(events: Sequence[Sequence[Any]]) -> int | None:
    """Return the code of the client's first Close frame in a log of the server: KLE is its patience's end, and RF a
    frame that it received, with its length, its payload and its opcode. A payload that is not UTF-8 is in hex."""
    for kind, *details in events:
        if kind == "KLE":
            break
        if kind == "RF" and details[1] == CLOSE:
            length, text = details[0]
            octets = bytes.fromhex(text[2:6]) if text.startswith("0x") else text[:2].encode()
            return None if (code := int.from_bytes(octets)) == 1005 or not length else code
    return None


def case_of(cases: str) -> str | None:
    """Return the testsuite's case among those that a row of the table names."""
    found = re.search(r"Autobahn ([0-9.]+)", cases)
    return found[1] if found else None

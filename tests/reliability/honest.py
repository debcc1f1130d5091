"""An honest client beside dishonest ones, which measures how they affect it.

It has a thread and a blocking socket of its own, so that work for other clients does not delay it.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from tests import frames

PERIOD = 0.01
"""Seconds between two messages."""

_MESSAGE = frames.client_frame(frames.TEXT, b"an honest message")
_ECHO = frames.server_frame(frames.TEXT, b"an honest message")


class Honest:
    """A context manager that echoes a small message every `PERIOD` seconds."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.times: list[float] = []
        """For each message, the seconds from its due time until its echo was complete."""
        self._socket = socket.create_connection(address, 30)
        self._socket.settimeout(60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(frames.handshake())
        assert self._socket.recv(4096).startswith(b"HTTP/1.1 101 ")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop. The echo under way counts, too."""
        self._is_over.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._is_over.is_set():
            self._echo()
            now = time.monotonic()
            # Messages that were due during this echo would have waited, too. Without them one long stall would be only
            # one sample of many.
            while due <= now:
                self.times.append(now - due)
                due += PERIOD
            time.sleep(max(0.0, due - time.monotonic()))

    def _echo(self) -> None:
        self._socket.sendall(_MESSAGE)
        octets = b""
        while len(octets) < len(_ECHO):
            piece = self._socket.recv(len(_ECHO))
            if not piece:
                self.times.append(math.inf)
                self._is_over.set()
                return
            octets += piece
        assert octets == _ECHO


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that `percent` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]

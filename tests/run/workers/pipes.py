"""The parent's end of a worker's pipes."""

from __future__ import annotations

import json
import os
import select
from typing import Any

import pytest

from echod.run.workers import link
from echod.run.workers.link import encode


class Pipes:
    """The parent's end of a worker's pipes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._out, theirs = os.pipe()
        theirs_too, self._in = os.pipe()
        monkeypatch.setattr(link, "TO_PARENT", theirs)
        monkeypatch.setattr(link, "FROM_PARENT", theirs_too)
        self._theirs = [theirs, theirs_too]

    def read(self) -> Any:
        """Return the next message."""
        size = int.from_bytes(self._read(4), "big")
        return json.loads(self._read(size))

    def _read(self, size: int) -> bytes:
        octets = b""
        while len(octets) < size:
            piece = self._read_some(size - len(octets))
            assert piece, "the worker has closed its end"
            octets += piece
        return octets

    def _read_some(self, size: int) -> bytes:
        assert select.select([self._out], [], [], 10)[0], "the worker says nothing"
        return os.read(self._out, size)

    def write(self, message: Any) -> None:
        os.write(self._in, encode(message))

    def close(self) -> None:
        """Close this end, as the kernel does for a parent that dies."""
        os.close(self._in)
        self._in = -1

    def close_all(self) -> None:
        # Twisted leaves its ends open, because they are usually closed by the end of the process.
        for descriptor in (self._out, self._in, *self._theirs):
            if descriptor >= 0:
                os.close(descriptor)

"""The ready file (`--ready-file`): one JSON object that says where the daemon listens, as soon as it serves there.

The file appears whole or not at all, and exists only while the daemon serves. So whoever waits for it needs neither the
log nor a second look. Knows files and standard output. Must never know what the object says.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from errno import EBADF, EEXIST
from pathlib import Path

from echod.run import whole_file

STANDARD_OUTPUT = "-"
"""The place that stands for standard output."""


def is_own(octets: bytes) -> bool:
    """Tell whether this may be a ready file of an earlier start."""
    return octets.startswith(b'{"urls": ')


class ReadyFile:
    """The object at its place: a path, `STANDARD_OUTPUT`, or None for nowhere."""

    def __init__(self, place: str | None = None) -> None:
        self._path = None if place in (None, STANDARD_OUTPUT) else Path(str(place))
        self._is_output = place == STANDARD_OUTPUT
        self._written: whole_file.Identity | None = None

    def remove_old(self) -> None:
        """Remove the file of an earlier start, so that nobody takes it for this one's; raises `OSError`."""
        if self._path is None:
            return
        # By now a socket of this daemon's own may be there.
        if (fault := whole_file.fault(self._path, is_own)) is not None:
            raise OSError(EEXIST, f"it {fault}")
        self._path.unlink(missing_ok=True)

    def write(self, facts: Mapping[str, object]) -> None:
        """Write the object; raises `OSError`, and then there is no file."""
        text = json.dumps(facts) + "\n"
        if self._is_output:
            if sys.__stdout__ is None:
                raise OSError(EBADF, os.strerror(EBADF))
            sys.__stdout__.write(text)
            sys.__stdout__.flush()
        elif self._path is not None:
            self._written = whole_file.write(self._path, text.encode())

    def remove(self) -> None:
        """Remove the file if it is still this daemon's: its successor may serve by now."""
        with suppress(OSError):  # a daemon that gave up its privileges may not be allowed to
            if self._path and whole_file.identify(self._path) == self._written:
                self._path.unlink()

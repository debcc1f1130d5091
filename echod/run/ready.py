"""The ready file (`--ready-file`): one JSON object that says where the daemon listens, as soon as it serves there.

The file appears whole or not at all, and exists only while the daemon serves. So whoever waits for it needs neither the
log nor a second look. Knows files and standard output. Must never know what the object says.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from errno import EBADF
from pathlib import Path

from echod.run import whole_file

STANDARD_OUTPUT = "-"
"""The place that stands for standard output."""


class ReadyFile:
    """The object at its place: a path, `STANDARD_OUTPUT`, or None for nowhere."""

    def __init__(self, place: str | None = None) -> None:
        self._path = None if place in (None, STANDARD_OUTPUT) else Path(str(place))
        self._is_output = place == STANDARD_OUTPUT
        self._written: os.stat_result | None = None

    def remove_old(self) -> None:
        """Remove the file of an earlier start, so that nobody takes it for this one's; raises `OSError`."""
        if self._path is not None:
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
            if self._path and self._written and os.path.samestat(self._path.stat(), self._written):
                self._path.unlink()


def fault(place: str) -> str | None:
    """Return why the object can't be written at `place`, as far as that is known before the start; None if it can."""
    path = Path(place)
    if place == STANDARD_OUTPUT:
        return None
    with suppress(OSError):
        if not stat.S_ISREG(path.stat().st_mode):
            return "is not a file that could be replaced; - stands for standard output"
    if not path.parent.is_dir():
        return "is in a folder that does not exist"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else "is in a folder that may not be written"

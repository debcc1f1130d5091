"""A small file that other programs wait for: it is written whole or not at all.

Knows files. Must never know what is in one.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

Identity = tuple[int, int, int]
"""What no two files have in common: the device, the inode and the time of the last change. The inode alone would not
do: ext4 gives the inode of a file that was removed to the next new one."""

MOST_READ = 65536
"""Bytes of an old file that are looked at. What echod writes is smaller."""


def write(path: Path, octets: bytes) -> Identity:
    """Write a file that all users may read, whatever the umask is, or leave what is there; raises `OSError`.

    Returns the identity of the file, whatever is at its path later.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(octets)
            file.flush()
            written = _identity(os.fstat(descriptor))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return written


def identify(path: Path) -> Identity:
    """Return the identity of the file that is at a path now; raises `OSError`."""
    return _identity(path.stat())


def fault(path: Path, is_own: Callable[[bytes], bool]) -> str | None:
    """Return why no file can be written at `path`, as far as that is known before; None if it can.

    A file that is there already is replaced only if it is empty or `is_own` says that echod wrote it: somebody may have
    named a key. A link is not followed, because it would be replaced itself.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return "is not a file that could be replaced"
        with path.open("rb") as file:
            octets = file.read(MOST_READ)
        if octets.strip() and not is_own(octets):
            return "is a file that echod has not written: remove it, or choose another path"
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        return f"can't be read: {error.strerror}"
    if not path.parent.is_dir():
        return "is in a folder that does not exist"
    return None if os.access(path.parent, os.W_OK | os.X_OK) else "is in a folder that may not be written"


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino, found.st_mtime_ns

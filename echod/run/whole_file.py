"""A small file that other programs wait for: it is written whole or not at all.

Knows files. Must never know what is in one.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, octets: bytes) -> os.stat_result:
    """Write a file that all users may read, whatever the umask is, or leave what is there; raises `OSError`.

    Returns what identifies the file, whatever is at its path later.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(octets)
            written = os.fstat(descriptor)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return written

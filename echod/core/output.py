"""A command's output, written once at its end: it is whole, or a line on standard error says why it is not.

Knows streams and exit statuses. Must never know what is written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from errno import EBADF
from typing import TextIO


def write(text: str, out: TextIO | None, error_out: TextIO | None) -> int:
    """Write `text` to `out`, and return the exit status: 0, or EX_IOERR after a line on `error_out`.

    A stream is None if the process was started without it.
    """
    try:
        if out is None:
            raise OSError(EBADF, os.strerror(EBADF))
        out.write(text)
        out.flush()
    except OSError as error:
        if out is not None:
            # Python would try to write the rest of the stream's buffer once more at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        with suppress(OSError):
            if error_out is not None:
                error_out.write(f"echod: can't write to standard output: {error.strerror}\n")
        return os.EX_IOERR
    return os.EX_OK

"""The addresses of zlib's functions, for the express lane, which does not link zlib itself (deflate.h).

Knows the library's name. Must never know what the functions are used for.
"""

from __future__ import annotations

import ctypes
from functools import cache

LIBRARY = "libz.so.1"
"""The name by which the dynamic linker of every Linux knows zlib, since version 1.0."""

_NAMES = (
    "zlibVersion",
    "inflateInit2_",
    "inflate",
    "inflateReset",
    "inflateSetDictionary",
    "inflateEnd",
    "deflateInit2_",
    "deflate",
    "deflateReset",
    "deflateEnd",
)


@cache
def find() -> dict[str, int] | None:
    """Return the addresses of the functions by name; None if there is no zlib to load.

    Python's own zlib module tells only on some Pythons where its library is. Debian and Ubuntu build the module into
    the interpreter, and uv's Pythons hide the library in it, too. But the dynamic linker knows the library by its name.

    If Python's module uses the shared library (Debian, Ubuntu, Docker's images, pyenv), the process has loaded it, and
    the linker returns that one. Then the lane deflates to the same bytes as Python. Otherwise (uv) the linker loads the
    system's library, which may be another version. Then the lane may deflate to other bytes than Python, which inflate
    to the same message.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
        addresses = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _NAMES}
    except (AttributeError, OSError):
        return None
    return {name: address for name, address in addresses.items() if address is not None}

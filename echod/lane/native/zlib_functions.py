"""Where zlib's functions are, for the express lane, which links none of its own (deflate.h).

Knows the library's name. Must never know what the functions are called for.
"""

from __future__ import annotations

import ctypes
from functools import cache

LIBRARY = "libz.so.1"
"""The name that the dynamic linker knows zlib by, since version 1.0, on every Linux."""

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
    """Return the functions' addresses by name; None if there is no zlib to load.

    Python's own zlib module says where its library is on some Pythons only. Debian and Ubuntu build the module into the
    interpreter, and uv's Pythons hide the library in it, too. The dynamic linker knows the library by its name. If the
    process has loaded it, as it has where Python's module uses it (Debian, Ubuntu, Docker's images, pyenv), the linker
    returns that one, and the lane deflates to the same octets as Python. Otherwise (uv) the linker loads the system's,
    which may be another version: what is deflated anew may then be other octets in the lane than without, which inflate
    to the same message.
    """
    try:
        library = ctypes.CDLL(LIBRARY)
        addresses = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _NAMES}
    except (AttributeError, OSError):
        return None
    return {name: address for name, address in addresses.items() if address is not None}

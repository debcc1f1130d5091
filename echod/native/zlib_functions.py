"""Where zlib's functions are, for the express lane, which links none of its own (deflate.h).

Knows how to look into the library that Python's own module is. Must never know what the functions are called for.
"""

from __future__ import annotations

import ctypes
import zlib
from functools import cache

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
    """Return the functions (their addresses) of the zlib that Python's own module uses, so that the same octets come of it.

    They are public, but not to be had where zlib is part of the interpreter, and hidden in it: then None.
    """
    try:
        library = ctypes.CDLL(zlib.__file__)
        addresses = {name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in _NAMES}
    except (AttributeError, OSError):
        return None
    return {name: address for name, address in addresses.items() if address is not None}

"""zlib's functions are found where Python has them, or not at all."""

from __future__ import annotations

import ctypes
import zlib

import pytest

from echod.native import zlib_functions


def test_zlib_is_the_one_that_python_has() -> None:
    functions = zlib_functions.find()
    assert functions is not None
    assert functions.keys() == set(zlib_functions._NAMES)
    version = ctypes.CFUNCTYPE(ctypes.c_char_p)(functions["zlibVersion"])()
    assert version == zlib.ZLIB_RUNTIME_VERSION.encode()


@pytest.mark.parametrize("change", ["part of the interpreter", "gone", "hidden"])
def test_zlib_is_not_called_where_it_can_not_be_found(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if change == "part of the interpreter":
        monkeypatch.delattr(zlib, "__file__")
    elif change == "gone":
        monkeypatch.setattr(zlib, "__file__", "/nowhere/zlib.so")
    else:
        monkeypatch.setattr(zlib_functions, "_NAMES", ("inflate", "inflateUnheardOf"))
    assert zlib_functions.find.__wrapped__() is None

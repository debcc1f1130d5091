"""zlib's functions are found, however Python's own module was built. If there is no zlib, none is found."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import zlib

import pytest

from echod.lane.native import zlib_functions

# This acts like two Pythons: Debian's, whose zlib module is not a file, and uv's, which has not loaded the library
# either. The library is looked up before Python's own module could load it.
ALONE = """\
import sys
if sys.argv[1] == "built in":
    import zlib
    vars(zlib).pop("__file__", None)
else:
    sys.modules["zlib"] = None
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("zlib_functions", sys.argv[2])
module = module_from_spec(spec)
spec.loader.exec_module(module)
print(len(module.find() or ()))
"""


def test_zlib_is_the_one_that_python_has() -> None:
    functions = zlib_functions.find()
    assert functions is not None
    assert functions.keys() == set(zlib_functions._NAMES)
    if "libz" in maps_of_a_python_that_has_zlib():
        version = ctypes.CFUNCTYPE(ctypes.c_char_p)(functions["zlibVersion"])()
        assert version == zlib.ZLIB_RUNTIME_VERSION.encode()


def maps_of_a_python_that_has_zlib() -> str:
    """Return the memory map of a new Python process that has imported zlib."""
    command = "import zlib; print(open('/proc/self/maps').read())"
    return subprocess.run(
        [sys.executable, "-I", "-c", command], capture_output=True, text=True, timeout=30, check=True
    ).stdout


@pytest.mark.parametrize("kind", ["built in", "hidden"])
def test_zlib_is_found_where_python_does_not_say_where_it_is(kind: str) -> None:
    command = [sys.executable, "-I", "-c", ALONE, kind, zlib_functions.__file__]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout, done.stderr) == (f"{len(zlib_functions._NAMES)}\n", "")


@pytest.mark.parametrize("change", ["gone", "another"])
def test_zlib_is_not_called_where_it_can_not_be_found(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if change == "gone":
        monkeypatch.setattr(zlib_functions, "LIBRARY", "libz.so.0")
    else:
        monkeypatch.setattr(zlib_functions, "_NAMES", ("inflate", "inflateUnheardOf"))
    assert zlib_functions.find.__wrapped__() is None

"""zlib's functions are found, however Python's own module was built. If there is no zlib, none is found."""

from __future__ import annotations

import ctypes
import os
import re
import socket
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from echod.lane.native import zlib_functions
from tests.client import upgrade
from tests.daemon import Daemon
from tests.frames import DEFLATE, TEXT, client_frame, deflated_octets, split
from tests.tools import give_up, needed

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


@pytest.fixture
def another_zlib(tmp_path: Path) -> Path:
    """Return a folder with another libz.so.1, which passes all calls on to the one of this process."""
    compiler = needed("cc", "gcc")
    if zlib_functions.find() is None:
        give_up("no libz.so.1: apt-get install zlib1g")
    maps = Path("/proc/self/maps").read_text().splitlines()
    real = next(line.split(maxsplit=5)[5] for line in maps if "/libz.so.1" in line)
    # nm is part of what gcc and clang need.
    listed = subprocess.run(["nm", "-D", "--defined-only", real], capture_output=True, text=True, check=True).stdout
    functions = re.findall(r"^\S+ T (\w+)", listed, re.MULTILINE)
    (tmp_path / "functions.h").write_text("".join(f"PASS_ON({name})\n" for name in functions))
    given = [f'-DREAL_ZLIB="{real}"', '-DFUNCTIONS="functions.h"', f"-I{tmp_path}"]
    command = [compiler, "-shared", "-fPIC", *given, "-Wl,-soname,libz.so.1", "-o", "libz.so.1"]
    source = Path(__file__).with_name("another_zlib.c")
    subprocess.run([*command, source, "-ldl"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.usefixtures("native")
def test_zlib_is_another_one_where_the_process_has_that(another_zlib: Path) -> None:
    """zlib-ng has a library with zlib's name and functions. The linker finds it first, for Python and the lane."""
    calls = another_zlib / "calls"
    path = f"{another_zlib}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":")
    env = {"LD_LIBRARY_PATH": path, "ANOTHER_ZLIB_CALLS": str(calls), "ECHOD_NATIVE": "1"}
    offer = f"{DEFLATE}; client_no_context_takeover; server_no_context_takeover"
    payload = b"said again " * 100
    with Daemon("--compression", "deflate", env=env) as daemon, socket.create_connection(daemon.address, 60) as client:
        upgrade(client, offer)
        calls.unlink()  # the start calls some
        client.sendall(client_frame(TEXT, deflated_octets(payload), rsv=4))
        (frame,), _ = split(client.recv(1000))
    assert (frame.opcode, frame.rsv) == (TEXT, 4)
    assert zlib.decompressobj(-15).decompress(frame.payload) == payload
    assert {"inflateReset", "deflateReset"} <= set(calls.read_text().split()), "which nothing but the lane calls"

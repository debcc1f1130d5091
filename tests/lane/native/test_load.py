"""The choice between the native module and none, in new interpreters with a copy of the package that is built, not
built, or broken."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import echod
from echod.lane.native import NativeError, load

if TYPE_CHECKING:
    from echod.lane.native import Native

ASK = """
import sys
sys.path.insert(0, sys.argv[1])
from echod.lane.native import NativeError, load
try:
    found = load(None if sys.argv[2] == "unset" else sys.argv[2])
    print("none" if found is None else found.isa)
except NativeError as error:
    print("error:", error)
"""


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    """Return a folder with a copy of the package without the extension."""
    shutil.copytree(
        Path(echod.__file__).parent, tmp_path / "echod", ignore=shutil.ignore_patterns("*.so", "__pycache__")
    )
    return tmp_path


def ask(folder: Path, mode: str, *options: str) -> str:
    """Return what ``load`` says in that folder."""
    command = [sys.executable, *options, "-c", ASK, str(folder), mode]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, cwd=folder).stdout.strip()


def test_built(native: Native) -> None:
    """A built module is used by default and if it is required, but not with ECHOD_NATIVE=0."""
    assert load(None) == load("1") == native
    assert load("0") is None
    assert native.isa in {"scalar", "ssse3", "avx2", "neon"}


@pytest.mark.parametrize("mode", ["", "2", "yes"])
def test_no_other_mode(mode: str) -> None:
    """Any other value is an error."""
    with pytest.raises(NativeError, match=f"ECHOD_NATIVE={mode}: expected 1"):
        load(mode)


def test_not_built(unbuilt: Path) -> None:
    """A missing module is an error only if it is required. The error says how to get it."""
    assert ask(unbuilt, "unset") == "none"
    assert ask(unbuilt, "0") == "none"
    assert ask(unbuilt, "1").startswith("error: ECHOD_NATIVE=1, and the native module is not built; a C compiler")


@pytest.mark.parametrize("mode", ["unset", "1"])
def test_broken(unbuilt: Path, mode: str) -> None:
    """A module that can't be loaded is an error even if it is not required."""
    (unbuilt / "echod" / "lane" / "native" / "_native.so").write_bytes(b"")
    assert ask(unbuilt, mode).startswith("error: the native module cannot be loaded")
    assert ask(unbuilt, "0") == "none"


@pytest.mark.parametrize("mode", ["unset", "1"])
@pytest.mark.usefixtures("native")
def test_without_cffi(unbuilt: Path, mode: str) -> None:
    """The extension needs cffi's runtime, and the error names it. (With -S Python sees no installed package.)"""
    file = sys.modules["echod.lane.native._native"].__file__
    assert file is not None
    shutil.copy(file, unbuilt / "echod" / "lane" / "native")
    assert ask(unbuilt, mode, "-S").startswith("error: the native module needs _cffi_backend, which is not installed")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            ModuleNotFoundError("No module named '_cffi_backend'", name="_cffi_backend"),
            "needs _cffi_backend, which is not installed",
        ),
        (ImportError("wrong ELF class"), "cannot be loaded (wrong ELF class)"),
    ],
)
@pytest.mark.parametrize("mode", [None, "1"])
def test_a_native_module_of_no_use_is_told(
    monkeypatch: pytest.MonkeyPatch, native: Native, error: ImportError, words: str, mode: str
) -> None:
    class Broken(MetaPathFinder):
        def find_spec(self, name: str, *_: object) -> None:
            if name == "echod.lane.native._native":
                raise error

    assert native
    monkeypatch.delitem(sys.modules, "echod.lane.native._native")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(NativeError, match=re.escape(words)):
        load(mode)

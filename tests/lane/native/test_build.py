"""How the extension is built: from these sources, with all kernels, and into a wheel if there is a compiler."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cffi import VerificationError

from echod.lane.native import build
from tests.lane.native.conftest import KERNELS
from tests.tools import give_up, needed

if TYPE_CHECKING:
    from echod.lane.native import Native

ROOT = Path(__file__).parent.parent.parent.parent
NATIVE = ROOT / "echod" / "lane" / "native"


def c_string(native: Native, pointer: object) -> str:
    """Return a C string as text."""
    octets = native.ffi.string(pointer)  # type: ignore[arg-type]
    assert isinstance(octets, bytes)
    return octets.decode()


def test_built_from_these_sources(native: Native) -> None:
    """If this fails, the C code was changed and not built, and all tests test the old code: run make native."""
    assert c_string(native, native.lib.echod_native_digest) == build.digest()


def test_every_kernel_is_compiled(native: Native) -> None:
    """The extension has all kernels for this machine's architecture, from the plainest to the best, even those that the
    processor can't run."""
    names = (native.lib.echod_codec_isa_name(index) for index in itertools.count())
    assert [
        c_string(native, name) for name in itertools.takewhile(lambda name: name != native.ffi.NULL, names)
    ] == KERNELS


def test_the_best_kernel_is_chosen(native: Native) -> None:
    """The default is the best kernel that the processor can run. A name chooses another, and an unknown name changes
    nothing."""
    usable = [name for name in KERNELS if native.lib.echod_codec_isa_usable(name.encode())]
    assert usable[0] == "scalar"
    assert native.isa == usable[-1]
    assert native.lib.echod_codec_set_isa(b"scalar") == 0
    assert native.lib.echod_codec_set_isa(b"mmx") == -1
    assert native.isa == "scalar"
    assert native.lib.echod_codec_set_isa(native.ffi.NULL) == 0
    assert native.isa == usable[-1]
    assert not native.lib.echod_codec_isa_usable(b"mmx")


def test_the_stub_names_what_is_there(native: Native) -> None:
    """The stub for the type checker has the same names as the extension."""
    stub = (NATIVE / "_native.pyi").read_text()
    library = stub[stub.index("class Library") : stub.index("\nffi:")]
    assert sorted(re.findall(r"^    (?:def )?(\w+)[:(]", library, re.MULTILINE)) == sorted(dir(native.lib))


@pytest.fixture
def _compiler() -> None:
    needed("cc", "gcc python3-dev")


@pytest.mark.usefixtures("_compiler")
def test_built_elsewhere(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The build leaves only the extension in the folder, and the extension loads."""
    build.main(tmp_path)
    (extension,) = tmp_path.iterdir()
    assert extension.name in capfd.readouterr().out
    spec = importlib.util.spec_from_file_location("_native", extension)
    assert spec is not None
    loaded = importlib.util.module_from_spec(spec)
    assert loaded.lib.echod_codec_isa_usable(b"scalar")


@pytest.mark.usefixtures("_compiler")
def test_another_extension_does_not_stay_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python would first load an extension for its own version, whatever that was built from."""
    monkeypatch.setenv(build.CFLAGS_VARIABLE, "-O0 -g0")
    (tmp_path / f"_native{EXTENSION_SUFFIXES[0]}").touch()
    build.main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["_native.abi3.so"]


@pytest.mark.usefixtures("_compiler")
def test_a_python_without_a_stable_abi_has_an_extension_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(build.CFLAGS_VARIABLE, "-O0 -g0")
    monkeypatch.setattr(build, "IS_STABLE", False)
    monkeypatch.setattr(build, "LIMITED_API", [])
    build.main(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"_native{EXTENSION_SUFFIXES[0]}"]


def test_flags_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build under sanitizers passes flags to the compiler. This flag is unknown, so the build fails."""
    monkeypatch.setenv(build.CFLAGS_VARIABLE, "-O1 --no-such-flag")
    with pytest.raises(VerificationError):
        build.main(tmp_path)


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize(("chosen", "is_searched"), [(None, False), ("cc -shared -Wl,-rpath,/of-the-linker", True)])
def test_libraries_are_searched_only_where_the_caller_says(
    chosen: str | None, is_searched: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python with its libraries in a folder of its own would write that folder into everything that it links."""
    monkeypatch.setenv(build.CFLAGS_VARIABLE, "-O0 -g0")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("LDSHARED", raising=False)
    monkeypatch.setitem(sysconfig.get_config_vars(), "LDSHARED", "cc -shared -Wl,-rpath,/of-the-linker")
    if chosen:
        monkeypatch.setenv("LDSHARED", chosen)
    build.main(tmp_path)
    (extension,) = tmp_path.iterdir()
    assert (b"/of-the-linker" in extension.read_bytes()) == is_searched
    assert os.environ.get("LDSHARED") == chosen


@pytest.mark.usefixtures("_compiler")
def test_built_as_distributions_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Buffer overruns are detected, branches are marked, and the table of functions is read-only."""
    needed("readelf", "binutils")
    monkeypatch.delenv(build.CFLAGS_VARIABLE, raising=False)
    build.main(tmp_path)
    (extension,) = tmp_path.iterdir()
    described = subprocess.run(
        ["readelf", "--wide", "-dl", "--dyn-syms", extension], capture_output=True, text=True, check=True
    ).stdout
    for expected in (r"BIND_NOW", r"GNU_RELRO", r"__stack_chk_fail", r"__\w+_chk\b"):
        assert re.search(expected, described), f"{expected} is missing in\n{described}"
    if build.IS_X86:
        assert extension.read_bytes().count(b"\xf3\x0f\x1e\xfa") > len(build.sources()), (
            "no endbr64 at the beginning of functions"
        )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the files that a wheel is made from, without a built extension and with an empty plugin."""
    if importlib.util.find_spec("hatchling") is None:
        give_up("no hatchling to build a wheel with: pip install hatchling setuptools")
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "echod", copy / "echod", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, copy)
    plugin = copy / "twisted" / "plugins" / "echod_plugin.py"
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    return copy


def wheel(checkout: Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[Path]]:
    """Build a wheel. Return the finished process, and the wheels that are there now."""
    dist = checkout / "dist"
    clean = {
        name: value for name, value in os.environ.items() if name not in {"ECHOD_NATIVE", build.CFLAGS_VARIABLE, "CC"}
    }
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)],
        cwd=checkout,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done, sorted(dist.glob("*.whl")) if dist.exists() else []


def extensions(path: Path) -> list[str]:
    """Return the names of the compiled files in a wheel."""
    return [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".so")]


@pytest.mark.usefixtures("_compiler")
def test_wheel_with_a_compiler(checkout: Path) -> None:
    """The extension is in its package, the wheel is for this platform, and the source tree is unchanged."""
    done, (built,) = wheel(checkout, ECHOD_NATIVE="1")
    assert done.returncode == 0, done.stderr
    (extension,) = extensions(built)
    assert extension == "echod/lane/native/_native.abi3.so"
    assert re.fullmatch(r"echod-.+-cp311-abi3-(linux|macosx)_\w+\.whl", built.name)
    assert not list(checkout.glob("echod/lane/native/*.so"))


def test_wheel_without_a_compiler(checkout: Path) -> None:
    """The result is a pure wheel and a line that says what it lacks. If the extension is required, the build fails."""
    done, (built,) = wheel(checkout, CC="no-such-compiler")
    assert done.returncode == 0, done.stderr
    assert built.name.endswith("py3-none-any.whl")
    assert not extensions(built)
    (warning,) = [line for line in (done.stdout + done.stderr).splitlines() if "express lane" in line]
    assert "echod is built without its express lane: the C code did not compile: " in warning

    done, built_again = wheel(checkout, CC="no-such-compiler", ECHOD_NATIVE="1")
    assert done.returncode != 0
    assert built_again == [built]


def test_wheel_without_the_wish(checkout: Path) -> None:
    """With ECHOD_NATIVE=0 there is no extension and no warning."""
    done, (built,) = wheel(checkout, ECHOD_NATIVE="0")
    assert done.returncode == 0, done.stderr
    assert not extensions(built)
    assert "express lane" not in done.stdout + done.stderr

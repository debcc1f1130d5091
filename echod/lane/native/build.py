"""Builds the express lane: it compiles every C file of this folder into one extension, ``echod.lane.native._native``.

The extension uses only CPython's stable ABI, so one file (``_native.abi3.so``) serves every Python from `OLDEST` on.
It is not built for the processor at hand (no ``-march=native``), because each kernel names its instruction set
(kernel.h). A new C file or header is built because it is in this folder.

Knows cffi, the compiler's flags, and that a header's declarations for Python stand between two marked lines. Must never
know what the C does or whether anyone wants it: ``hatch_build.py`` decides that for an installation. In a checkout the
command is ``python -m echod.lane.native.build``.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from cffi import FFI

MODULE = "echod.lane.native._native"
HERE = Path(__file__).parent

# The oldest Python that the extension is for, as in pyproject.toml. A free-threaded Python before 3.15 has no stable
# ABI, and PyPy has none; what is built with such a Python is for that Python alone.
OLDEST = (3, 11)
STABLE_SUFFIX = ".abi3.so"
IS_STABLE = STABLE_SUFFIX in EXTENSION_SUFFIXES
LIMITED_API = [("Py_LIMITED_API", "0x{:02x}{:02x}0000".format(*OLDEST))] if IS_STABLE else []

# Linux distributions build with these options: a buffer overrun ends the process, and a function pointer can only lead
# to a function. Branches are marked only on x86, because compilers for other processors do not know that option.
IS_X86 = platform.machine() in {"x86_64", "i386", "i686"}
HARDENING = (
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    *(("-fcf-protection",) if IS_X86 else ()),
)

# The loader looks up all addresses when it loads the extension, and makes them read-only. The linker of macOS has no
# such option.
LDFLAGS = () if sys.platform == "darwin" else ("-Wl,-z,relro", "-Wl,-z,now")

# -O3: from this level on gcc 12 vectorises the scalar kernel. Hidden: calls between the C files need no indirection.
# NDEBUG: assertions would cost 3 % of a small message's instructions. Fuzzers and sanitized tests run with them.
CFLAGS = ("-std=c11", "-O3", "-DNDEBUG", "-fvisibility=hidden", "-Wall", "-Wextra", *HARDENING)

# Flags for a build under sanitizers or for coverage. The compiler and the linker get them after the flags above.
CFLAGS_VARIABLE = "ECHOD_NATIVE_CFLAGS"

# The C that cffi generates calls alloca. cffi 2.0 relies on Python.h for its declaration, but under the limited API
# Python.h does not include it, and the extension would not load.
ALLOCA = """\
#if defined(__has_include) && __has_include(<alloca.h>)
#include <alloca.h>
#endif
"""

DECLARATIONS = re.compile(r"^/\* cffi: begin \*/$(.*?)^/\* cffi: end \*/$", re.MULTILINE | re.DOTALL)

INCLUDE = re.compile(r'^#include "(.*)"$', re.MULTILINE)


def sources() -> list[Path]:
    """The C files, in the order in which they are built."""
    return sorted(HERE.glob("*.c"))


def headers() -> list[Path]:
    """The headers that declare something for Python, each behind those that it includes."""
    texts = {header: header.read_text() for header in sorted(HERE.glob("*.h"))}
    order = TopologicalSorter({header: [HERE / name for name in INCLUDE.findall(texts[header])] for header in texts})
    return [header for header in order.static_order() if DECLARATIONS.search(texts[header])]


def declarations() -> str:
    """What Python may call. It is read from the headers, so that it is written only once."""
    return "\n".join(match for header in headers() for match in DECLARATIONS.findall(header.read_text()))


def digest() -> str:
    """A digest of what the extension is built from. The tests compare it with that of the extension they run."""
    summed = hashlib.sha256()
    for path in sorted([*HERE.glob("*.[ch]"), Path(__file__)]):
        summed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return summed.hexdigest()


def build(target: Path, extra: list[str], verbose: bool = False) -> Path:
    """Build the extension into the folder ``target``, and return its path there. ``extra``: more compiler flags."""
    ffi = FFI()
    ffi.cdef(declarations() + "\nstatic const char echod_native_digest[];")
    ffi.set_source(
        MODULE,
        ALLOCA
        + "\n".join(f'#include "{header.name}"' for header in headers())
        + f'\nstatic const char echod_native_digest[] = "{digest()}";',
        sources=[str(path) for path in sources()],
        include_dirs=[str(HERE)],
        define_macros=LIMITED_API,
        extra_compile_args=[*CFLAGS, *extra],
        extra_link_args=[*LDFLAGS, *extra],
    )
    # A folder of its own, because cffi leaves its generated C and objects behind, and because setuptools, which cffi
    # uses, reads any pyproject.toml in the folder where it works.
    with tempfile.TemporaryDirectory() as elsewhere, _linker_without_run_path():
        built = Path(ffi.compile(tmpdir=elsewhere, verbose=verbose))
        path = target / (f"_native{STABLE_SUFFIX}" if IS_STABLE else built.name)
        # The file is replaced in one step: a process that has loaded the old file keeps it, and would crash if the
        # file itself were written to.
        Path(shutil.move(built, f"{path}.new")).replace(path)
    # Python would load an extension for one version first.
    for other in {*target.glob("_native.*.so")} - {path}:
        other.unlink()
    return path


@contextmanager
def _linker_without_run_path() -> Iterator[None]:
    """Let setuptools link as usual, but without the folders in which this Python searches for its own libraries.

    The extension needs only libc, and where it is installed these folders may belong to anybody. A compiler or linker
    that the caller has chosen is left alone.
    """
    if os.environ.keys() & {"CC", "LDSHARED"}:
        yield
        return
    words = shlex.split(sysconfig.get_config_var("LDSHARED"))
    os.environ["LDSHARED"] = shlex.join(word for word in words if not word.startswith("-Wl,-rpath"))
    try:
        yield
    finally:
        del os.environ["LDSHARED"]


def main(target: Path = HERE) -> None:
    """Build in a checkout, beside the sources."""
    print(build(target, shlex.split(os.environ.get(CFLAGS_VARIABLE, ""))).name)


if __name__ == "__main__":
    main()

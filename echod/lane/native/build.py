"""Builds the express lane: every C file of this folder into one extension, ``echod.lane.native._native``.

Knows cffi, the compiler's flags, and that a header's declarations for Python stand between two marked lines. Must never
know what the C does, nor whether anyone wants it: ``hatch_build.py`` decides that for an installation; in a checkout
the command is ``python -m echod.lane.native.build``. A new C file or header is built by being here.

Nothing is built for the processor at hand (no ``-march=native``): kernels carry their instruction set, see kernel.h.
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
from pathlib import Path

from cffi import FFI

MODULE = "echod.lane.native._native"
HERE = Path(__file__).parent

# What distributions build with: an overrun of a buffer ends the process, and no function pointer leads anywhere but to
# a function. Branches are marked on x86 alone: compilers for other processors do not know that option.
IS_X86 = platform.machine() in {"x86_64", "i386", "i686"}
HARDENING = (
    "-fstack-protector-strong",
    "-U_FORTIFY_SOURCE",
    "-D_FORTIFY_SOURCE=2",
    *(("-fcf-protection",) if IS_X86 else ()),
)

# All addresses are looked up when the extension is loaded, and then are read-only. The linker of macOS has no such
# option.
LDFLAGS = () if sys.platform == "darwin" else ("-Wl,-z,relro", "-Wl,-z,now")

# -O3: gcc 12 vectorises the scalar kernel from there on. Hidden: calls between the files need no indirection.
CFLAGS = ("-std=c11", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", *HARDENING)

# A build under sanitizers or for coverage: these are given to the compiler and to the linker, behind the flags above.
CFLAGS_VARIABLE = "ECHOD_NATIVE_CFLAGS"

DECLARATIONS = re.compile(r"^/\* cffi: begin \*/$(.*?)^/\* cffi: end \*/$", re.MULTILINE | re.DOTALL)


def sources() -> list[Path]:
    """The C files, in the order in which they are built."""
    return sorted(HERE.glob("*.c"))


def headers() -> list[Path]:
    """The headers that declare something for Python."""
    return [header for header in sorted(HERE.glob("*.h")) if DECLARATIONS.search(header.read_text())]


def declarations() -> str:
    """What Python may call, from the headers themselves, so that it is written once."""
    return "\n".join(match for header in headers() for match in DECLARATIONS.findall(header.read_text()))


def digest() -> str:
    """What the extension was built from: a checkout's tests compare it with the extension they run."""
    summed = hashlib.sha256()
    for path in sorted([*HERE.glob("*.[ch]"), Path(__file__)]):
        summed.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return summed.hexdigest()


def build(target: Path, extra: list[str], verbose: bool = False) -> Path:
    """Build the extension into the folder ``target``; the answer is its file."""
    ffi = FFI()
    ffi.cdef(declarations() + "\nstatic const char echod_native_digest[];")
    ffi.set_source(
        MODULE,
        "\n".join(f'#include "{header.name}"' for header in headers())
        + f'\nstatic const char echod_native_digest[] = "{digest()}";',
        sources=[str(path) for path in sources()],
        include_dirs=[str(HERE)],
        extra_compile_args=[*CFLAGS, *extra],
        extra_link_args=[*LDFLAGS, *extra],
    )
    # Elsewhere: cffi leaves its generated C and objects, and setuptools, which it uses, reads any pyproject.toml where
    # it works.
    with tempfile.TemporaryDirectory() as elsewhere, _linker_without_run_path():
        built = Path(ffi.compile(tmpdir=elsewhere, verbose=verbose))
        # In one step: who has the one before it loaded keeps that, where writing into its file would end them.
        aside = Path(shutil.move(built, target / f"{built.name}.new"))
        return aside.replace(target / built.name)


@contextmanager
def _linker_without_run_path() -> Iterator[None]:
    """Have setuptools link as it would, but without the folders that this Python has its own libraries searched for in.

    The extension needs none but libc's, and wherever it is installed these folders may be anybody's. A linker or
    compiler that the caller has chosen is left alone.
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

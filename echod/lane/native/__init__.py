"""The express lane's native half, or none: the one place where that choice is made.

Knows the extension that build.py makes, and what the three values of ``ECHOD_NATIVE`` mean. Must never know where that
value comes from (the caller hands it in) nor what the lane is used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _cffi_backend import FFI

    from echod.lane.native._native import Library

__all__ = ["Native", "NativeError", "load"]


class NativeError(Exception):
    """The extension was asked for and cannot be had, or the asking makes no sense. One line, for a person."""


@dataclass(frozen=True)
class Native:
    """The compiled module."""

    ffi: FFI
    lib: Library

    @property
    def isa(self) -> str:
        """The kernel that was chosen for this processor, to be named at start."""
        name = self.ffi.string(self.lib.echod_codec_isa())
        assert isinstance(name, bytes)
        return name.decode()


def load(mode: str | None) -> Native | None:
    """The extension as ``ECHOD_NATIVE`` wishes: ``1`` it or an error, ``0`` none, unset (``None``) it where it is
    built."""
    if mode not in {None, "0", "1"}:
        raise NativeError(f"ECHOD_NATIVE={mode}: expected 1 (required), 0 (off), or unset (used when built)")
    if mode == "0":
        return None
    try:
        import echod.lane.native._native as _native  # noqa: PLC0415, PLR0402 - it need not be there
    except ModuleNotFoundError as error:
        if error.name != "echod.lane.native._native":
            raise NativeError(
                f"the native module needs {error.name}, which is not installed; ECHOD_NATIVE=0 runs without it"
            ) from error
        if mode == "1":
            raise NativeError(
                "ECHOD_NATIVE=1, and the native module is not built; a C compiler at installation time builds it"
            ) from error
        return None
    except ImportError as error:
        # Built, and of no use: for another Python, another libc. To go on without would be to be slow without a word.
        raise NativeError(f"the native module cannot be loaded ({error}); ECHOD_NATIVE=0 runs without it") from error
    return Native(_native.ffi, _native.lib)

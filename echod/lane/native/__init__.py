"""The express lane's native half, or none: this is the only place that makes that choice.

Knows the extension that build.py makes, and what the three values of ``ECHOD_NATIVE`` mean. Must never know where the
value comes from (the caller passes it in), or what the lane is used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _cffi_backend import FFI

    from echod.lane.native._native import Library

__all__ = ["Native", "NativeError", "load"]


class NativeError(Exception):
    """The extension was required and can't be used, or ``ECHOD_NATIVE`` has no such value. The text is one line."""


@dataclass(frozen=True)
class Native:
    """The compiled module."""

    ffi: FFI
    lib: Library

    @property
    def isa(self) -> str:
        """The name of the kernel that was chosen for this processor, which the start report tells."""
        name = self.ffi.string(self.lib.echod_codec_isa())
        assert isinstance(name, bytes)
        return name.decode()


def load(mode: str | None) -> Native | None:
    """Return the extension, or None. ``mode`` is the value of ``ECHOD_NATIVE``.

    With ``1`` a missing extension is a `NativeError`, with ``0`` the result is None, and without a value (None) the
    extension is used if it was built.
    """
    if mode not in {None, "0", "1"}:
        raise NativeError(f"ECHOD_NATIVE={mode}: expected 1 (required), 0 (off), or unset (used when built)")
    if mode == "0":
        return None
    try:
        import echod.lane.native._native as _native  # noqa: PLC0415, PLR0402 - it may be missing
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
        # The extension is for another Python or another libc. To go on without it would be slow, and nobody would know.
        raise NativeError(f"the native module cannot be loaded ({error}); ECHOD_NATIVE=0 runs without it") from error
    return Native(_native.ffi, _native.lib)

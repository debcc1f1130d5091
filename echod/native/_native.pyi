# What Python may call of the C: the declarations between the cffi lines of the headers, as types. A test compares the names.
from typing import Any, Protocol, TypeAlias

from _cffi_backend import FFI

# A pointer, or a buffer object where the C takes uint8_t *: which ones fit, cffi checks at each call.
_Octets: TypeAlias = Any
_LargePointer: TypeAlias = Any

class Echoed(Protocol):
    consumed: int
    produced: int
    text_messages: int
    binary_messages: int
    text_octets: int
    binary_octets: int
    need: int
    stop: int

class Library(Protocol):
    ECHOD_STOP_BOUNDARY: int
    ECHOD_STOP_NEED_MORE: int
    ECHOD_STOP_TOO_LARGE: int
    ECHOD_STOP_NOT_ORDINARY: int
    ECHOD_LARGE_OPEN: int
    ECHOD_LARGE_COMPLETE: int
    ECHOD_LARGE_INVALID: int
    ECHOD_UTF8_REJECT: int
    ECHOD_UTF8_ACCEPT: int
    echod_native_digest: FFI.CData

    def echod_codec_echo(self, octets: _Octets, length: int, max_message_size: int, /) -> Echoed: ...
    def echod_large_begin(self, large: _LargePointer, octets: _Octets, length: int, max_message_size: int, /) -> int: ...
    def echod_large_server_header(self, large: _LargePointer, header: _Octets, /) -> int: ...
    def echod_large_client_header(self, large: _LargePointer, header: _Octets, /) -> int: ...
    def echod_large_feed(self, large: _LargePointer, target: _Octets, source: _Octets, length: int, /) -> int: ...
    def echod_large_restore(self, large: _LargePointer, payload: _Octets, /) -> None: ...
    def echod_unmask(self, target: _Octets, source: _Octets, length: int, key: int, /) -> int: ...
    def echod_key_at(self, key: int, offset: int, /) -> int: ...
    def echod_utf8(self, state: int, octets: _Octets, length: int, /) -> int: ...
    def echod_codec_isa_name(self, index: int, /) -> FFI.CData: ...
    def echod_codec_isa_usable(self, name: bytes, /) -> int: ...
    def echod_codec_set_isa(self, name: bytes | FFI.CData, /) -> int: ...
    def echod_codec_isa(self) -> FFI.CData: ...

ffi: FFI
lib: Library

"""The value that answers a key, compared with hashlib and base64, and keys as `http/upgrade.py` judges them."""

from __future__ import annotations

import base64
import hashlib
import random
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echod.http.upgrade import _KEY
from tests.lane.native.codec import Guarded

if TYPE_CHECKING:
    from echod.lane.native import Native

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def accept_value(native: Native, key: bytes) -> bytes:
    """Return the value, from a buffer that is as long as the key into one that is as long as the value."""
    source, target = Guarded(native, key), Guarded(native, bytes(native.lib.ECHOD_ACCEPT_VALUE))
    native.lib.echod_accept_value(source.at(), target.at())
    assert source.octets == key
    return target.octets


def expected(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + GUID, usedforsecurity=False).digest())


def test_the_example_of_the_rfc(native: Native) -> None:
    """RFC 6455 section 1.3."""
    assert accept_value(native, b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_any_key(native: Native) -> None:
    choice = random.Random(1)
    for _ in range(2_000):
        key = base64.b64encode(choice.randbytes(16))
        assert accept_value(native, key) == expected(key)


def test_any_octets(native: Native) -> None:
    """What is hashed need not be base64: each octet with each value reaches the sum."""
    for octet in range(256):
        key = bytes([octet]) * native.lib.ECHOD_HANDSHAKE_KEY
        assert accept_value(native, key) == expected(key)


def is_key(native: Native, octets: bytes) -> bool:
    source = Guarded(native, octets)
    return bool(native.lib.echod_is_key(source.at(), len(octets)))


def test_each_octet_in_each_place(native: Native) -> None:
    """A key is one as Python judges."""
    good = b"+/09AZaz" * 2 + b"abcdef=="
    for place in range(len(good)):
        for octet in range(256):
            octets = good[:place] + bytes([octet]) + good[place + 1 :]
            assert is_key(native, octets) == bool(_KEY.fullmatch(octets)), octets
    for size in range(30):
        octets = (b"A" * 40)[: size - 2] + b"=="[:size]
        assert is_key(native, octets) == bool(_KEY.fullmatch(octets)), octets


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=40), st.binary(min_size=16, max_size=17).map(base64.b64encode)))
def test_any_text(native: Native, octets: bytes) -> None:
    assert is_key(native, octets) == bool(_KEY.fullmatch(octets))

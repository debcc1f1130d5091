"""Replies to Close frames, compared with Autobahn's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echod.core.counts import NO_CODE
from tests.fakes import Peer, make_factory
from tests.frames import CLOSE, client_frame, close_payload
from tests.lane.native.codec import Guarded

if TYPE_CHECKING:
    from echod.lane.native import Native


def reply(native: Native, octets: bytes) -> tuple[bytes, int] | None:
    """Return the native reply and its code, or None."""
    source, target = Guarded(native, octets), Guarded(native, bytes(native.lib.ECHOD_LARGEST_REPLY))
    code: Any = native.ffi.new("uint16_t *")
    size = native.lib.echod_farewell(source.at(), len(octets), target.at(), code)
    assert source.octets == octets
    return (target.octets[:size], code[0]) if size else None


def expected(octets: bytes) -> tuple[bytes, int] | None:
    """Return Python's reply to a valid Close frame and its code; None for anything else."""
    peer = Peer(make_factory(ping_interval=0))
    peer.open()
    answer = peer.send(octets)
    if not peer.protocol.wasClean:
        return None
    code = peer.protocol.remoteCloseCode
    return answer, NO_CODE if code is None else code


REASONS = (b"", b"bye", "é€😀".encode() * 13, b"x" * 123)


def test_every_code(native: Native) -> None:
    """A code that Autobahn does not take gets no native reply."""
    for code in (*range(1100), *range(2990, 3010), *range(4990, 5010), 65_535):
        frame = client_frame(CLOSE, close_payload(code, "why"))
        assert reply(native, frame) == expected(frame), code


@pytest.mark.parametrize("reason", [*REASONS, b"\xff", b"\xc3", b"\xed\xa0\x80", b"x" * 100 + b"\xf0\x9f"])
def test_reasons(native: Native, reason: bytes) -> None:
    frame = client_frame(CLOSE, (1000).to_bytes(2, "big") + reason)
    assert reply(native, frame) == expected(frame)
    assert (reply(native, frame) is not None) == (reason in REASONS)


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\x03\xe8"])
def test_short_ones(native: Native, payload: bytes) -> None:
    frame = client_frame(CLOSE, payload)
    assert reply(native, frame) == expected(frame)


ODD = [
    b"\x88\x05\x03\xe8bye",
    b"\x08" + client_frame(CLOSE, b"")[1:],
    b"\xc8" + client_frame(CLOSE, b"")[1:],
    b"\x89" + client_frame(CLOSE, b"")[1:],
    b"\x88\xfe\x00\x7e" + bytes(4 + 126),
    b"\x88\xff" + bytes(8 + 4),
]


@pytest.mark.parametrize("frame", ODD)
def test_what_is_no_close_frame(native: Native, frame: bytes) -> None:
    assert reply(native, frame) is None


def test_cut_anywhere(native: Native) -> None:
    """A frame that is not whole gets no reply, and what comes behind a whole one is not looked at."""
    frame = client_frame(CLOSE, close_payload(1001, "going away"))
    for size in range(len(frame)):
        assert reply(native, frame[:size]) is None
    assert reply(native, frame + b"\x81\x80") == reply(native, frame) == expected(frame)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([999, 1000, 1002, 1014, 1015, 3000, 4999]), st.binary(max_size=123) | st.text(max_size=30))
def test_any_reason(native: Native, code: int, reason: bytes | str) -> None:
    octets = reason.encode() if isinstance(reason, str) else reason
    frame = client_frame(CLOSE, code.to_bytes(2, "big") + octets)
    assert reply(native, frame) == expected(frame)

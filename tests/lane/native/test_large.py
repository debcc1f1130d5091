"""One large message in pieces: the payload and the verdict are those of the whole message, as early as possible."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lane.native import oracle
from tests.lane.native.codec import Guarded
from tests.lane.native.oracle import BINARY, TEXT, client_frame, client_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.lane.native.codec import Codec

KEY = b"\x37\xfa\x21\x3d"
MIXED = "aé€😀 Ωж中𝄞".encode() * 400


def verdict(payload: bytes, done: int, opcode: int) -> str:
    """Return the right verdict once `done` bytes have come."""
    if opcode == TEXT and not (oracle.begins_text(payload[:done]) and (done < len(payload) or oracle.is_text(payload))):
        return "INVALID"
    return "COMPLETE" if done == len(payload) else "OPEN"


def feed_all(codec: Codec, payload: bytes, opcode: int, sizes: Iterable[int], back: int = 0) -> None:
    """Feed a payload in pieces. After each piece, compare the verdict and the unmasked bytes, and check that no other
    byte was written."""
    frame = client_frame(payload, opcode, KEY)
    size, large = codec.large(frame)
    assert (size, large.client_header()) == (len(frame) - len(payload), frame[:size])
    assert large.server_header() == oracle.server_frame(payload, opcode)[: size - 4]
    masked = frame[size:]
    buffer = Guarded(codec.native, bytes(back) + masked)
    done = 0
    for piece in [*sizes, len(payload)]:
        said = large.feed(buffer.at(done), buffer.at(done + back), piece)
        taken = large.struct.done - done
        right = verdict(payload, min(done + piece, len(payload)), opcode)
        assert said == right, (done, piece)
        assert taken == min(piece, len(payload) - done) or right == "INVALID"
        done += taken
        assert buffer.octets[:done] == payload[:done]
        assert buffer.octets[done + back :] == masked[done:]
        if said != "OPEN":
            break
    large.restore(buffer.at())
    assert buffer.octets[:done] == masked[:done]
    assert (large.struct.done, large.struct.utf8) == (0, codec.native.lib.ECHOD_UTF8_ACCEPT)


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 7, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 1000, 4095, 4096, 4097])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_pieces_of_one_size(codec: Codec, opcode: int, piece: int) -> None:
    """Pieces from one byte to more than the whole message, so that pieces begin at every byte of the key and cut
    characters everywhere."""
    length = min(40 * piece, 9000)
    payload = (
        MIXED[:length].decode(errors="ignore").encode() if opcode == TEXT else random.Random(piece).randbytes(length)
    )
    feed_all(codec, payload, opcode, [piece] * (len(payload) // piece))


@pytest.mark.parametrize("back", [1, 4, 14, 64, 100])
def test_moved_to_the_front(codec: Codec, back: int) -> None:
    """The target lies before the source, as in a buffer that still has the header in front of the payload."""
    feed_all(codec, MIXED, TEXT, [100, 1, 2, 3, 5000], back)


def test_moved_elsewhere(codec: Codec) -> None:
    """The target is another buffer, as when bytes of the read buffer go into the message's own buffer."""
    frame = client_frame(MIXED, TEXT, KEY)
    size, large = codec.large(frame[:100])
    source, target = Guarded(codec.native, frame[size:]), Guarded(codec.native, bytes(len(MIXED)), 3)
    assert large.feed(target.at(), source.at(), 100 - size) == "OPEN"
    assert large.feed(target.at(100 - size), source.at(100 - size), len(MIXED)) == "COMPLETE"
    assert (target.octets, source.octets) == (MIXED, frame[size:])


def test_no_more_than_the_payload(codec: Codec) -> None:
    """The bytes behind the message in the buffer are left alone."""
    size, large = codec.large(client_frame(b"Hello", TEXT, KEY))
    buffer = Guarded(codec.native, oracle.mask(b"Hello", KEY) + b"next frame")
    assert large.feed(buffer.at(), buffer.at(), 15) == "COMPLETE"
    assert (size, large.struct.done, buffer.octets) == (6, 5, b"Hellonext frame")


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 4095, 4096, 6000])
@pytest.mark.parametrize(
    "fault",
    [
        b"\xff",
        b"\x80",
        b"\xc1",
        b"\xe0\x80",
        b"\xed\xa0",
        b"\xf0\x80",
        b"\xf4\x90",
        b"\xf5",
        b"\xc3",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
    ],
)
def test_invalid_as_soon_as_it_shows(codec: Codec, fault: bytes, place: int) -> None:
    """Autobahn fails a message at the first byte that can't continue the text, and the lane fails it as early.

    The last three faults are a cut character with ASCII behind it, although ASCII alone would need no validation.
    """
    payload = b"a" * place + fault + b"a" * 3000
    feed_all(codec, payload, TEXT, [place, *[1] * len(fault)])
    feed_all(codec, payload, TEXT, [place // 2 + 1] * 3)
    feed_all(codec, payload, TEXT, [])


@pytest.mark.parametrize("cut", ["C3", "E282", "F09F98", "F09F", "F0"])
def test_no_end_within_a_character(codec: Codec, cut: str) -> None:
    """The last byte of a character is missing: the text is invalid when the payload ends, not before."""
    payload = b"a" * 100 + bytes.fromhex(cut)
    feed_all(codec, payload, TEXT, [len(payload) - 1])
    feed_all(codec, payload, TEXT, [])


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536, 1 << 20, (1 << 63) - 1])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_headers(codec: Codec, length: int, opcode: int) -> None:
    """A header is read once it is whole. It is written as the server sends it, and as the client sent it."""
    header = client_header(length, opcode, KEY)
    for size in range(len(header)):
        assert codec.large(header[:size], length)[0] == 0
    size, large = codec.large(header + b"payload", length)
    assert (size, large.struct.length, large.struct.opcode) == (len(header), length, opcode)
    assert large.client_header() == header
    assert large.server_header() == bytes([0x80 | opcode]) + oracle.encoded_length(length)
    if length:
        assert codec.large(header, length - 1)[0] == 0


@pytest.mark.parametrize(
    "header", [b"\x01\x85" + KEY, b"\x81\x05" + KEY, b"\xc1\x85" + KEY, b"\x89\x85" + KEY, b"\x82\xfe\x00\x05" + KEY]
)
def test_no_large_message_of_another_kind(codec: Codec, header: bytes) -> None:
    """Only an ordinary frame can begin a large message."""
    assert codec.large(header)[0] == 0


def test_empty(codec: Codec) -> None:
    """An empty message is complete without any payload."""
    feed_all(codec, b"", TEXT, [])
    feed_all(codec, b"", BINARY, [])


payloads = st.lists(
    st.one_of(st.text(max_size=60).map(str.encode), st.binary(max_size=4), st.just(b"a" * 200)), max_size=10
).map(b"".join)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    payloads,
    st.sampled_from([TEXT, BINARY]),
    st.lists(st.integers(0, 150), max_size=20),
    st.sampled_from([0, 1, 4, 14]),
)
def test_any_payload_in_any_pieces(
    codecs: list[Codec], payload: bytes, opcode: int, sizes: list[int], back: int
) -> None:
    """Valid and invalid payloads, also in empty pieces."""
    for each in codecs:
        with each as codec:
            feed_all(codec, payload, opcode, sizes, back)

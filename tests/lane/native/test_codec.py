"""Whole frames: the codec echoes ordinary frames as the oracle does, and leaves everything else unchanged."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lane.native import oracle
from tests.lane.native.oracle import BINARY, TEXT, client_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lane.native.codec import Codec

LIMIT = 1 << 24
KEYS = [b"\x37\xfa\x21\x3d", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x80\0\x7f\x01"]
EDGE_LENGTHS = [0, 1, 2, 3, 4, 125, 126, 127, 128, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 100_000]
MIXED = "aé€😀 Ωж中𝄞".encode() * 4000


def text_of(length: int) -> bytes:
    """Return valid text of `length` bytes with characters of all sizes."""
    text = MIXED[:length].decode(errors="ignore").encode()
    return text + b"." * (length - len(text))


PAYLOADS: dict[str, tuple[int, Callable[[int], bytes]]] = {
    "ascii": (TEXT, lambda length: b"Hello, " * (length // 7) + b"." * (length % 7)),
    "mixed": (TEXT, text_of),
    "binary": (BINARY, random.Random(6455).randbytes),
}


@pytest.mark.parametrize("content", PAYLOADS)
def test_every_size_and_alignment(codec: Codec, content: str) -> None:
    """Two frames: the second one moves twice as far as the first."""
    opcode, payload = PAYLOADS[content]
    for size in range(200):
        octets = client_frame(payload(size), opcode, KEYS[size % 4]) + client_frame(payload(size + 1), opcode, KEYS[0])
        right = oracle.echo(octets, LIMIT)
        assert right.stop == "BOUNDARY"
        for alignment in range(32):
            assert codec.echo(octets, LIMIT, alignment) == right, (size, alignment)


@pytest.mark.parametrize("length", EDGE_LENGTHS)
@pytest.mark.parametrize("content", PAYLOADS)
def test_edge_lengths(codec: Codec, content: str, length: int) -> None:
    """Lengths on both sides of where a header changes its form, with a frame before and behind."""
    opcode, payload = PAYLOADS[content]
    small = client_frame(b"small", TEXT, KEYS[0])
    octets = small + client_frame(payload(length), opcode, KEYS[3]) + small
    right = oracle.echo(octets, LIMIT)
    assert right.consumed == len(octets)
    assert codec.echo(octets) == right


def test_many_frames_are_packed(codec: Codec) -> None:
    """The answers are one block of bytes for one send, however far the last one moves."""
    source = random.Random(1)
    frames = [
        client_frame(payload(source.choice([0, 1, 16, 125, 126, 300])), opcode, source.randbytes(4))
        for opcode, payload in source.choices(list(PAYLOADS.values()), k=400)
    ]
    right = oracle.echo(b"".join(frames), LIMIT)
    assert (right.messages, right.stop) == (400, "BOUNDARY")
    assert codec.echo(b"".join(frames)) == right


def test_nothing(codec: Codec) -> None:
    """An empty buffer ends at a frame boundary."""
    assert codec.echo(b"") == oracle.Echo(b"", 0, "BOUNDARY", 0, ({}, 0), ({}, 0))


KEY = KEYS[0]
NOT_ORDINARY = {
    "fragment, first": b"\x01\x85" + KEY + b"hello",
    "fragment, binary": b"\x02\x85" + KEY + b"hello",
    "fragment, middle": b"\x00\x85" + KEY + b"hello",
    "fragment, last": b"\x80\x85" + KEY + b"hello",
    "RSV1 (compressed)": b"\xc1\x85" + KEY + b"hello",
    "RSV2": b"\xa1\x85" + KEY + b"hello",
    "RSV3": b"\x92\x85" + KEY + b"hello",
    "reserved opcode 3": b"\x83\x80" + KEY,
    "reserved opcode 7": b"\x87\x80" + KEY,
    "close": b"\x88\x82" + KEY + b"ab",
    "ping": b"\x89\x80" + KEY,
    "pong": b"\x8a\x80" + KEY,
    "reserved opcode 15": b"\x8f\x80" + KEY,
    "no mask": b"\x81\x05hello",
    "no mask, empty": b"\x82\x00",
    "no mask, 16-bit length": b"\x82\x7e\x00\x80" + bytes(128),
    "16-bit length of 125": b"\x82\xfe\x00\x7d" + KEY + bytes(125),
    "16-bit length of 0": b"\x82\xfe\x00\x00" + KEY,
    "64-bit length of 65535": b"\x82\xff" + (65535).to_bytes(8, "big") + KEY,
    "64-bit length of 0": b"\x82\xff" + bytes(8) + KEY,
    "length with the top bit": b"\x82\xff\x80" + bytes(7) + KEY,
    "text that is not UTF-8": client_frame(b"abc\xff", TEXT, KEY),
    "text that ends within a character": client_frame(b"abc\xe2\x82", TEXT, KEY),
    "a GET": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", NOT_ORDINARY)
def test_what_is_not_ordinary_is_left_alone(codec: Codec, name: str) -> None:
    """The odd frame comes first, behind ordinary frames, or before them; it is whole, or cut anywhere."""
    odd = NOT_ORDINARY[name]
    ordinary = client_frame(b"ordinary", TEXT, KEY) + client_frame(bytes(300), BINARY, KEY)
    for before in (b"", ordinary):
        for behind in (b"", ordinary):
            said = codec.echo(before + odd + behind)
            assert (said.stop, said.need, said.consumed) == ("NOT_ORDINARY", 0, len(before))
            assert said == oracle.echo(before + odd + behind, LIMIT)
    for end in range(len(odd)):
        assert codec.echo(ordinary + odd[:end]) == oracle.echo(ordinary + odd[:end], LIMIT), end


FAULTS = {
    "stray tail": b"\x80",
    "overlong": b"\xc0\xaf",
    "surrogate": b"\xed\xa0\x80",
    "too large": b"\xf4\x90\x80\x80",
    "cut": b"\xe2\x82",
}


@pytest.mark.parametrize("length", [8, 63, 64, 65, 125, 126, 128, 4096, 4097, 8195, 65536])
@pytest.mark.parametrize("fault", FAULTS)
def test_invalid_text_is_put_back(codec: Codec, length: int, fault: str) -> None:
    """The fault is at the beginning, at the end, or near the ends of vectors, blocks and pieces. The whole frame is
    restored, with its header and its mask."""
    octets = FAULTS[fault]
    ordinary = client_frame(b"ordinary", TEXT, KEY) + client_frame(bytes(300), BINARY, KEY)
    places = (
        {1, 4096, 65500}
        if length > 10000
        else {0, 1, 14, 15, 16, 31, 32, 62, 63, 64, 4094, 4095, 4096, length - len(octets)}
    )
    for place in sorted(places):
        if place + len(octets) > length:
            continue
        rest = length - place - len(octets)
        for before, behind in ((b"", text_of(rest)), (ordinary, b"." * rest)):
            payload = text_of(place) + octets + behind
            stream = before + client_frame(payload, TEXT, KEYS[3]) + ordinary
            said = codec.echo(stream)
            assert (said.stop, said.consumed) == ("NOT_ORDINARY", len(before)), (place, before)
            assert said == oracle.echo(stream, LIMIT)


def test_binary_is_not_validated(codec: Codec) -> None:
    """Bytes that would be a fault in a text are echoed in a binary message."""
    octets = b"".join(client_frame(fault * 40, BINARY, KEY) for fault in FAULTS.values())
    assert codec.echo(octets).consumed == len(octets)


STREAM = b"".join(
    client_frame(payload, opcode, key)
    for payload, opcode, key in (
        (b"", TEXT, KEYS[0]),
        (b"Hello", TEXT, KEYS[1]),
        (text_of(125), TEXT, KEYS[2]),
        (text_of(126), TEXT, KEYS[3]),
        (bytes(range(256)), BINARY, KEYS[0]),
        (text_of(65536), TEXT, KEYS[0]),
        (b"", BINARY, KEYS[3]),
    )
)


def test_leftovers(codec: Codec) -> None:
    """The stream is cut anywhere. The codec says what it needs, and goes on with the rest at the same place."""
    whole = oracle.echo(STREAM, LIMIT)
    cuts = [*range(700), *range(700, len(STREAM), 997), *range(len(STREAM) - 80, len(STREAM) + 1)]
    for cut in cuts:
        first = codec.echo(STREAM[:cut])
        assert first == oracle.echo(STREAM[:cut], LIMIT), cut
        assert first.stop in {"NEED_MORE", "BOUNDARY"}
        second = codec.echo(STREAM[first.consumed :])
        assert first.output + second.output == whole.output, cut
        if first.need:  # one byte fewer than it asks for changes nothing
            short = codec.echo(STREAM[first.consumed : first.consumed + first.need - 1])
            assert (short.consumed, short.stop) == (0, "NEED_MORE")


def test_byte_by_byte(codec: Codec) -> None:
    """A client may send one byte at a time. The need grows as more of the header is known, and is exact in the end."""
    frame = client_frame(text_of(300), TEXT, KEY)
    needs = [codec.echo(frame[:size]).need for size in range(1, len(frame) + 1)]
    assert needs == [2] + [4] * 2 + [len(frame)] * (len(frame) - 4) + [0]


@pytest.mark.parametrize("limit", [0, 1, 125, 126, 1000, 65535, 65536])
def test_the_limit(codec: Codec, limit: int) -> None:
    """A payload of exactly the limit is echoed. A larger one is refused as soon as its length is known, before its
    payload comes."""
    fits = client_frame(bytes(limit), BINARY, KEY)
    larger = client_frame(bytes(limit + 1), BINARY, KEY)
    assert codec.echo(fits + larger, limit) == oracle.echo(fits + larger, limit)
    said = codec.echo(fits + larger[:-1], limit)
    assert (said.consumed, said.stop, said.need) == (len(fits), "TOO_LARGE", len(larger))
    told = len(oracle.encoded_length(limit + 1)) + 1
    assert codec.echo(larger[:told], limit).stop == "TOO_LARGE"


def test_the_largest_length_there_is(codec: Codec) -> None:
    """A header announces 2**63 - 1 bytes: no sum may overflow, with any limit."""
    header = b"\x82\xff\x7f" + b"\xff" * 7 + KEY
    for limit in (LIMIT, (1 << 63) - 2):
        assert codec.echo(header, limit).stop == "TOO_LARGE"
    for limit in ((1 << 63) - 1, (1 << 64) - 1):
        said = codec.echo(header + bytes(100), limit)
        assert (said.stop, said.need, said.consumed) == ("NEED_MORE", (1 << 63) - 1 + 14, 0)


keys = st.binary(min_size=4, max_size=4)
ordinary_frames = st.one_of(
    st.builds(lambda text, key: client_frame(text.encode(), TEXT, key), st.text(max_size=90), keys),
    st.builds(lambda octets, key: client_frame(octets, BINARY, key), st.binary(max_size=300), keys),
    st.builds(lambda octets, key: client_frame(octets, TEXT, key), st.binary(max_size=20), keys),
    st.builds(lambda length, key: client_frame(text_of(length), TEXT, key), st.integers(0, 9000), keys),
)
streams = st.lists(
    st.one_of(ordinary_frames, ordinary_frames, st.sampled_from(list(NOT_ORDINARY.values())), st.binary(max_size=20)),
    max_size=8,
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams, st.data())
def test_any_stream(codecs: list[Codec], frames: list[bytes], data: st.DataObject) -> None:
    """Valid, nearly valid and random frames, cut anywhere, with a limit that some frames exceed."""
    stream = b"".join(frames)
    cut = data.draw(st.integers(0, len(stream)), "cut")
    limit = data.draw(st.sampled_from([LIMIT, 8000, 125, 16]), "limit")
    alignment = data.draw(st.integers(0, 63), "alignment")
    right = oracle.echo(stream[:cut], limit)
    for each in codecs:
        with each as codec:
            assert codec.echo(stream[:cut], limit, alignment) == right, codec.kernel

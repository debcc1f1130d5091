"""Frames as they are shown: each is read from its bytes, cut anywhere, whether it is valid or not."""

from __future__ import annotations

import pytest

from echod.websocket.frames import Frame, FrameReader, show
from tests.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, client_frame, close_payload, server_frame


def read(octets: bytes, step: int = 1000, most: int = 256) -> list[Frame]:
    """Return the frames of `octets`, with the part of a last one, read in pieces of `step` bytes."""
    reader, found = FrameReader(most), []
    for place in range(0, len(octets), step):
        piece, start = octets[place : place + step], 0
        while start < len(piece):
            start = reader.take(piece, start)
            if reader.is_complete:
                found.append(reader.next())
    assert reader.count == len(found)
    found.append(reader.next())
    return [frame for frame in found if frame is not None]


OCTETS = [
    client_frame(TEXT, "grüße".encode()),
    client_frame(TEXT, b""),
    server_frame(BINARY, b"\x00" * 125),
    client_frame(BINARY, b"x" * 126),
    client_frame(CLOSE, close_payload(1000, "bye")),
    server_frame(TEXT, b"y" * 70_000),
    client_frame(PING, b"?"),
    b"\x83\x00",
]


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000, 10**6])
def test_frames_cut_anywhere(step: int) -> None:
    found = read(b"".join(OCTETS), step)
    assert [(frame.name, frame.length, frame.is_masked, frame.came == frame.length) for frame in found] == [
        ("text", 7, True, True),
        ("text", 0, True, True),
        ("binary", 125, False, True),
        ("binary", 126, True, True),
        ("close", 5, True, True),
        ("text", 70_000, False, True),
        ("ping", 1, True, True),
        ("opcode 3", 0, False, True),
    ]
    assert [frame.payload for frame in found[:5]] == [
        *("grüße".encode(), b"", b"\x00" * 125, b"x" * 126),
        close_payload(1000, "bye"),
    ]
    assert found[5].payload == b"y" * 256, "no more is kept"


@pytest.mark.parametrize(
    ("octets", "line"),
    [
        (client_frame(TEXT, b"a\nb"), r"text fin masked length=3: a\nb"),
        (server_frame(TEXT, "é\u202e".encode()), r"text fin length=5: é\u202e"),
        (client_frame(TEXT, b"\xff"), r"text fin masked length=1: \xff"),
        (client_frame(TEXT, "é".encode()[:1], fin=False), r"text masked length=1: \xc3"),
        (client_frame(BINARY, b"a\x00"), r"binary fin masked length=2: a\x00"),
        (client_frame(TEXT, b"\xca\x00", rsv=4), r"text fin rsv1 masked length=2: \xca\x00"),
        (client_frame(PING, b"", rsv=3), "ping fin rsv2 rsv3 masked length=0: "),
        (client_frame(CLOSE, close_payload(1000)), "close fin masked length=2: 1000"),
        (client_frame(CLOSE, close_payload(4000, "ä")), "close fin masked length=4: 4000 ä"),
        (client_frame(CLOSE, b""), "close fin masked length=0: "),
        (client_frame(CLOSE, b"\x03"), r"close fin masked length=1: \x03"),
        (server_frame(TEXT, b"x" * 9), "text fin length=9: xxxxx…"),
        (client_frame(BINARY, b"x" * 9)[:-2], "binary fin masked length=9: xxxxx… (incomplete, 7 octets came)"),
        (
            b"\x82\xff" + (2**63).to_bytes(8) + bytes(4),
            f"binary fin masked length={2**63}: … (incomplete, 0 octets came)",
        ),
    ],
)
def test_what_is_told(octets: bytes, line: str) -> None:
    (frame,) = read(octets, most=5)
    assert str(frame) == line


def test_a_header_that_is_not_whole_is_no_frame() -> None:
    assert read(client_frame(BINARY, b"x" * 200)[:7]) == []


def test_the_fragments_of_a_text_are_text() -> None:
    pieces = [
        client_frame(TEXT, "é".encode(), fin=False),
        client_frame(PING, "é".encode()),
        client_frame(CONTINUATION, "é".encode()),
        client_frame(TEXT, "é".encode(), fin=False, rsv=4),
        client_frame(CONTINUATION, "é".encode()),
        client_frame(BINARY, "é".encode(), fin=False),
        client_frame(CONTINUATION, "é".encode()),
    ]
    octets = r"\xc3\xa9"
    assert [frame.shown_payload() for frame in read(b"".join(pieces))] == ["é", octets, "é", *[octets] * 4]


def test_the_fields() -> None:
    octets = client_frame(TEXT, b"hello", rsv=4) + client_frame(BINARY, b"hello", fin=False)[:-1]
    whole, part = (frame.fields() for frame in read(octets))
    common = {"masked": True, "length": 5}
    assert whole == {"opcode": 1, "type": "text", "fin": True, "rsv": [1], "payload": "hello", **common}
    assert part == {"opcode": 2, "type": "binary", "fin": False, "rsv": [], "payload": "hell…", "came": 4, **common}


def test_bytes_are_shown_without_what_a_terminal_acts_on() -> None:
    assert show(b"\x1b[31m\\", True) == r"\x1b[31m\\"
    assert show(b"\x1b[31m\\", False) == r"\x1b[31m\\"

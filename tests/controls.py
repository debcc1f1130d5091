"""Control frames of every kind, valid or not, and the places where a client can send them.

Knows the RFC, as tests/frames.py does. Must never import echod or Autobahn.
"""

from __future__ import annotations

from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
    close_payload,
    deflated_octets,
)

HELLO = deflated_octets(b"Hello")
ORDINARY = client_frame(TEXT, b"ordinary") + client_frame(BINARY, b"\xff\xfe")

CONTROLS = {
    "ping": client_frame(PING),
    "ping of one octet": client_frame(PING, b"\xff"),
    "longest ping": client_frame(PING, bytes(range(125))),
    "pong": client_frame(PONG),
    "longest pong": client_frame(PONG, bytes(range(125))),
    "pings and pongs": (client_frame(PING, b"1") + client_frame(PONG, b"2") + client_frame(PING, b"3" * 125)) * 2,
    "close": client_frame(CLOSE),
    "close with a reason": client_frame(CLOSE, close_payload(1000, "é" * 61)),
    "close of a bad gateway": client_frame(CLOSE, close_payload(1014)),
    "close of an application": client_frame(CLOSE, close_payload(4999, "a")),
    "close with half a code": client_frame(CLOSE, b"\x03"),
    "close with a reserved code": client_frame(CLOSE, close_payload(1006)),
    "close with a faulty reason": client_frame(CLOSE, close_payload(1000) + b"\xe2\x82"),
} | {
    f"{name} {how}": frame
    for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE), ("reserved opcode", 11))
    for how, frame in {
        "not masked": client_frame(opcode, b"ab", mask=None),
        "too long": client_frame(opcode, b"", claim=126),
        "far too long": client_frame(opcode, b"", claim=2**40),
        "fragmented": client_frame(opcode, b"ab", fin=False),
        "reserved bits": client_frame(opcode, b"ab", rsv=2),
        "deflated": client_frame(opcode, b"ab", rsv=4),
    }.items()
}
PLACES = {
    "first": (b"", ORDINARY),
    "between messages": (ORDINARY, ORDINARY),
    "within a message": (
        client_frame(TEXT, b"a\xe2\x82", fin=False),
        client_frame(CONTINUATION, b"\xac", fin=False) + client_frame(CONTINUATION) + ORDINARY,
    ),
    "behind a large frame": (client_frame(BINARY, bytes(5_000)), client_frame(BINARY, bytes(5_000))),
    "within a deflated message": (
        client_frame(TEXT, HELLO[:3], fin=False, rsv=4),
        client_frame(CONTINUATION, HELLO[3:5], fin=False) + client_frame(CONTINUATION, HELLO[5:]) + ORDINARY,
    ),
    "within a deflated message that has a fault": (
        ORDINARY + client_frame(TEXT, b"\xff\xff\xff", fin=False, rsv=4),
        client_frame(CONTINUATION) + ORDINARY,
    ),
}

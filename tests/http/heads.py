"""Request heads for tests, and the verdict on one."""

from __future__ import annotations

from echod.http.head_reader import HeadReader
from echod.http.upgrade import HandshakeGuard, Http2, Verdict
from echod.settings import Settings
from tests.frames import handshake

GUARD = HandshakeGuard(Settings())
PAGES = HandshakeGuard(Settings(), has_pages=True)
GOOD = handshake("/chat?a=b", "Sec-WebSocket-Protocol: one, two", "Origin: https://example.com")


def verdict(octets: bytes, step: int = 0, guard: HandshakeGuard = GUARD) -> Verdict | Http2 | None:
    reader = HeadReader(guard)
    result = None
    for start in range(0, len(octets), step or len(octets)):
        result = reader.feed(octets[start : start + (step or len(octets))])
        if result is not None:
            break
    return result


def without(line: bytes) -> bytes:
    assert b"\r\n" + line in GOOD
    start = GOOD.index(b"\r\n" + line)
    return GOOD[:start] + GOOD[GOOD.index(b"\r\n", start + 2) :]


def instead(line: bytes, other: bytes) -> bytes:
    return without(line)[:-2] + other + b"\r\n\r\n"

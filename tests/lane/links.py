"""Links to leased connections, and what tests ask of them: helpers that the tests of the express lane share.

Most are built on `tests.loop`: real sockets on the real transport and the real pump.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from echod.lane.codec import Codec
from echod.lane.ended import Ended
from echod.lane.large import Octets
from echod.lane.leases import Lane
from echod.lane.native import Native
from echod.upstream import transports
from echod.websocket.factory import EchoFactory
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    TEXT,
    client_frame,
    close_payload,
    server_frame,
)
from tests.loop import Bed, Link, SecureLink, wait_for_lease
from tests.tls import Certificate

KEY = b"\x37\xfa\x21\x3d"
UNWANTED = client_frame(BINARY, bytes(5_000))
"""A message that is too large for the lease of a tight pump: it ends the lease, and not the connection."""

GOING_AWAY = server_frame(CLOSE, close_payload(1001, "going away"))
AnyLink = TypeVar("AnyLink", bound=Link)


class FakeBorrower:
    """Keeps what the lane tells it."""

    lease: Any = None

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.messages = 0

    def echoed(self, messages: int, octets: int) -> None:  # noqa: ARG002
        self.messages += messages

    def lease_ended(self, ended: Ended) -> None:
        self.ended.append(ended)

    def lease_grown(self) -> None:
        raise AssertionError

    def lease_lost(self) -> None:
        raise AssertionError


def lane_of(bed_: Bed) -> Lane:
    assert bed_.factory.lane is not None
    return bed_.factory.lane


def held(bed_: Bed) -> int:
    lane = lane_of(bed_)
    return lane._lib.echod_pump_held(lane._pump)


def noise(size: int, opcode: int = BINARY) -> bytes:
    generator = random.Random(size)
    return (
        generator.randbytes(size)
        if opcode == BINARY
        else ("aé€😀" * size).encode()[: size // 10 * 10].ljust(size, b".")
    )


def has_taken_all(link: Link) -> bool:
    """Tell whether the pump has read everything of an incomplete message that was sent."""
    return bool(link.protocol.count()) and not transports.unread(link.protocol.carrier._layers)


def echoed(link: Link, opcode: int, payload: bytes) -> None:
    """Send one message and receive its echo."""
    link.send(client_frame(opcode, payload, mask=KEY))
    expected = server_frame(opcode, payload)
    assert link.receive(len(expected)) == expected


def is_leased(link: Link) -> bool:
    return link.protocol.lease is not None


def leased(link: AnyLink) -> AnyLink:
    """Wait until the lease has begun. Over TLS it begins a turn after the read."""
    wait_for_lease(link.protocol, link.loop, lambda: echoed(link, TEXT, b""))
    return link


def secure_link(made: Bed, certificate: Certificate, version: str) -> SecureLink:
    """Return a leased link over one version of TLS."""
    client = certificate.client()
    client.minimum_version = client.maximum_version = ssl.TLSVersion[version]
    return leased(made.secure_link(certificate, client=client))


def fragmented(payload: bytes, size: int, opcode: int = BINARY) -> list[bytes]:
    """Return the frames of a message, each with `size` bytes of payload but the last."""
    starts = range(0, len(payload), size)
    return [
        client_frame(CONTINUATION if at else opcode, payload[at : at + size], fin=at + size >= len(payload))
        for at in starts
    ]


def stuff(link: Link, octets: bytes, is_full: Callable[[], bool]) -> int:
    """Send `octets` again and again without reading, until the server reads no more. Return the number of bytes."""
    times, rest = 0, octets
    while not (is_full() and not link.push(b"")):
        sent = link.push(rest)
        rest = rest[sent:]
        if not sent:
            if is_full():
                break
            link.loop.turn(0.01)
        if not rest:
            times, rest = times + 1, octets
    return times * len(octets) + len(octets) - len(rest)


def counted(factory: EchoFactory, lane: str) -> tuple[int, int, int, int]:
    """Return how many messages and bytes of text, and then of binary messages, a lane received. As many were sent."""
    received, sent = factory.traffic()[lane]
    numbers = tuple((of.text.messages, of.text.octets, of.binary.messages, of.binary.octets) for of in (received, sent))
    assert numbers[0] == numbers[1]
    return numbers[0]


def told(link: Link) -> tuple[int, int, int, int]:
    traffic = link.protocol.traffic
    return traffic.received_messages, traffic.received_octets, traffic.sent_messages, traffic.sent_octets


def count_calls(factory: EchoFactory) -> list[bytes]:
    """Return a list to which each call of the codec appends the bytes that it leaves."""
    assert factory.codec is not None
    left: list[bytes] = []

    class Counting(Codec):
        def echo(self, octets: Octets, note: Callable[[int, int], None]) -> tuple[bytes, Octets]:
            answers, rest = super().echo(octets, note)
            left.append(bytes(rest))
            return answers, rest

    counting = Counting(factory.codec._native, factory.codec._limit)
    for connection in factory.live:
        connection._codec = counting
    factory.codec = counting
    return left


def with_library(native: Native, **changed: Any) -> Native:
    """Return the native module with some of its functions changed."""
    library = SimpleNamespace(**{name: getattr(native.lib, name) for name in dir(native.lib)} | changed)
    return Native(native.ffi, cast(Any, library))

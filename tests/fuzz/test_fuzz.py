"""Any bytes, cut in any way: the same answer and the same close, no exception, and no more than a second of CPU time.

As a test this draws a fixed number of streams. `python -m tests.fuzz --seconds N` draws streams for N seconds.
"""

from __future__ import annotations

import re
import time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tests.fakes import Peer, make_factory
from tests.fuzz.streams import pieces, streams

PATIENCE = 1.0
"""Limit in seconds of CPU time for a stream."""

# A deflated message may be both invalid and too long. Which fault the daemon sees first depends on how much of the
# message it inflates at a time, and so on the cuts.
_INFLATION = re.compile(rb"(permessage-deflate.*)\x88.\x03(?:\xef|\xf1).*\Z", re.DOTALL)

_DATE = re.compile(rb"\r\nDate: [^\r]*")


def answer(cut: list[bytes]) -> tuple[bytes, int, bool, bool]:
    """Return a new daemon's answer and the state of the connection after it: Autobahn's state, half-closed, closed."""
    clock = Clock()
    peer = Peer(make_factory(clock, max_message_size=8000, max_fragments=20))
    octets = b""
    for piece in cut:
        octets += peer.send(piece)
        # Long work is put off to the reactor's next turn.
        clock.advance(0)
        octets += peer.take()
    protocol, transport = peer.protocol, peer.transport
    octets = _INFLATION.sub(rb"\1 invalid or too long", octets)
    end = (_DATE.sub(b"", octets), protocol.state, transport.half_closed, bool(transport.disconnecting))
    peer.lose()
    assert not protocol.factory.live
    return end


def any_octets_cut_anywhere(data: st.DataObject) -> None:
    """Draw a stream and a way to cut it, and compare the answers to the whole and to the pieces."""
    octets = data.draw(streams())
    failures: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]
    began = time.process_time()
    try:
        whole = answer([octets] if octets else [])
        cut = answer(data.draw(pieces(octets)))
    finally:
        globalLogPublisher.removeObserver(observe)  # type: ignore[arg-type]
    assert not failures
    assert cut == whole
    assert time.process_time() - began < 2 * PATIENCE


@settings(suppress_health_check=list(HealthCheck), max_examples=150)
@given(st.data())
def test_any_octets_cut_anywhere(data: st.DataObject) -> None:
    any_octets_cut_anywhere(data)

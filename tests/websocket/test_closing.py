"""Every close has one deadline, whoever begins it."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from echod.core.deadlines import TICK
from tests.fakes import Peer
from tests.frames import (
    CLOSE,
    TEXT,
    Frame,
    client_frame,
    close_payload,
    split,
)
from tests.websocket.peers import opened


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        *(close_payload(code, reason) for code in (1000, 1001, 1011, 3000, 4999) for reason in ("", "bye", "ü" * 61)),
    ],
    ids=repr,
)
def test_close_code_and_reason_are_echoed(peer: Peer, payload: bytes) -> None:
    assert peer.frames(client_frame(TEXT, b"x") + client_frame(CLOSE, payload)) == [
        Frame(TEXT, b"x"),
        Frame(CLOSE, payload),
    ]
    assert peer.transport.disconnecting
    assert not peer.transport.half_closed


def test_no_close_outlives_its_deadline(clock: Clock) -> None:
    for octets in (client_frame(CLOSE), client_frame(3, b"a failure")):
        peer = opened(clock, close_timeout=2)
        peer.send(octets)
        clock.pump([TICK] * 19)
        assert not peer.transport.aborted
        clock.pump([TICK] * 3)
        assert peer.transport.aborted


def test_a_second_step_does_not_put_off_the_deadline(clock: Clock) -> None:
    peer = opened(clock, close_timeout=2)
    peer.protocol.go_away()
    clock.pump([TICK] * 15)
    peer.send(client_frame(CLOSE, close_payload(1001)))
    clock.pump([TICK] * 7)
    assert peer.transport.aborted


def test_who_closes_its_half_still_gets_its_answers(clock: Clock) -> None:
    peer = opened(clock)
    peer.send(client_frame(TEXT, b"x"))
    peer.protocol.readConnectionLost()
    peer.protocol.writeConnectionLost()
    assert peer.transport.disconnecting
    assert not peer.transport.aborted
    clock.pump([1] * 7)
    assert peer.transport.aborted


def test_a_failure_while_closing_says_nothing_more(peer: Peer) -> None:
    peer.protocol.go_away()
    peer.take()
    assert peer.send(client_frame(3)) == b""
    assert peer.transport.half_closed
    peer.protocol.go_on(1000)
    peer.protocol.wait_for_room()
    assert not peer.protocol.is_waiting


def test_who_closes_its_half_after_our_fin_is_let_go(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The FIN behind held echoes is a task, and may use up the share of its turn. The next turn must still see that no
    task is left."""
    monkeypatch.setattr("echod.core.turns.SHARE", 0)
    peer = opened(clock, "/?delay=1s")
    peer.send(client_frame(TEXT, b"held") + client_frame(3))
    clock.pump([0] * 10)
    assert [frame.opcode for frame in split(peer.take())[0]] == [TEXT, CLOSE]
    assert peer.transport.half_closed
    peer.protocol.readConnectionLost()
    assert peer.transport.disconnecting

"""The messages between the two ends of a link, however the bytes are cut."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from echod.run.workers.link import Link, encode
from tests.fakes import Transport


class End:
    """A link on a fake transport that notes what it hears, and answers with the question."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.transport = Transport()
        self.link = Link(lambda kind, value: self.heard.append((kind, value)), lambda kind, value: [kind, value])
        self.link.makeConnection(self.transport)


@pytest.fixture
def ends() -> tuple[End, End]:
    return End(), End()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_telling_and_asking(ends: tuple[End, End], size: int) -> None:
    one, other = ends
    answers: list[Any] = []
    one.link.tell("news", {"some": "ä"})
    one.link.ask("first", 1).addCallback(answers.append)
    one.link.ask("second").addCallback(answers.append)
    for sender, receiver in ((one, other), (other, one)):
        octets = sender.transport.take()
        for start in range(0, len(octets), size):
            receiver.link.dataReceived(octets[start : start + size])
    assert other.heard == [("news", {"some": "ä"})]
    assert answers == [["first", 1], ["second", None]]


def test_the_other_end_may_have_gone(ends: tuple[End, End]) -> None:
    one, _ = ends
    failures: list[Failure] = []
    one.link.ask("before").addErrback(failures.append)
    one.transport.take()
    one.link.connectionLost()
    one.link.ask("after").addErrback(failures.append)
    one.link.tell("after")
    assert one.transport.take() == b""
    assert [failure.check(ConnectionDone) for failure in failures] == [ConnectionDone, ConnectionDone]


def test_an_answer_that_nobody_waits_for_is_dropped(ends: tuple[End, End]) -> None:
    one, _ = ends
    one.link.dataReceived(encode(["answer", 17, "late"]))
    assert (one.heard, one.transport.take()) == ([], b"")


def test_a_message_has_its_limit(ends: tuple[End, End]) -> None:
    one, _ = ends
    one.link.dataReceived((Link.MAX_LENGTH + 1).to_bytes(4, "big"))
    assert one.transport.disconnecting

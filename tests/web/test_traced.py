"""The page of one traced connection."""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.web import traced
from echod.web.answers import Answer
from echod.web.sources import Local
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory
from tests.frames import TEXT, client_frame


@pytest.fixture
def factory() -> EchoFactory:
    return make_factory(Clock(), log_frames=True)


def answer(factory: EchoFactory, number: str) -> Answer:
    answers: list[Answer] = []
    traced.render(Local(factory), number).addCallback(answers.append)
    return answers[0]


def told(factory: EchoFactory, number: str) -> dict[str, Any]:
    found = answer(factory, number)
    assert (found.status, found.content_type) == (200, "application/json")
    content: dict[str, Any] = json.loads(found.body)
    return content


def test_the_page_is_live(factory: EchoFactory) -> None:
    peers = [Peer(factory) for _ in range(2)]
    for peer in peers:
        peer.open("/<chat>")
    assert told(factory, "2")["frames"] == []
    peers[1].send(client_frame(TEXT, b"<b>\n"))
    shown = told(factory, "2")
    assert (shown["number"], shown["path"], shown["traced"]) == ("2", "/<chat>", True)
    assert [(frame["direction"], frame["payload"]) for frame in shown["frames"]] == [
        ("in", r"<b>\n"),
        ("out", r"<b>\n"),
    ]
    assert answer(factory, "2").body.count(b"\n") == 4, "each frame has a line"
    peers[1].lose()
    assert answer(factory, "2") == traced.UNKNOWN


@pytest.mark.parametrize("number", ["2", "", "x", "1-1", "01", "\ufffd"])
def test_there_is_no_such_connection(factory: EchoFactory, number: str) -> None:
    Peer(factory).open()
    assert answer(factory, number) == traced.UNKNOWN
    assert traced.UNKNOWN.status == 404


def test_others_have_no_page() -> None:
    factory = make_factory()
    Peer(factory).open()
    assert factory.snapshots(0, 1)[0].number == "1"
    assert answer(factory, "1") == traced.UNKNOWN

"""The list of live connections: its pages, and parameters that are wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

from echod.web.answers import Answer
from echod.web.listing import render
from echod.web.sources import Local
from echod.websocket.factory import EchoFactory
from tests.fakes import Peer, make_factory


@pytest.fixture
def factory() -> EchoFactory:
    return make_factory(max_connections=1000, max_page=50)


def answered(factory: EchoFactory, arguments: dict[bytes, list[bytes]]) -> Answer:
    answer = render(Local(factory), arguments)
    if isinstance(answer, Answer):
        return answer
    answers: list[Answer] = []
    answer.addCallback(answers.append)
    return answers[0]


def shown(factory: EchoFactory, **arguments: str) -> dict[str, Any]:
    answer = answered(factory, {name.replace("_", "-").encode(): [value.encode()] for name, value in arguments.items()})
    assert (answer.status, answer.content_type) == (200, "application/json")
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_pages_are_in_the_order_of_acceptance(factory: EchoFactory) -> None:
    for i in range(230):
        Peer(factory, f"192.0.2.{i}")
    seen = []
    for page in range(1, 7):
        told = shown(factory, page=str(page), per_page="45")
        assert (told["total"], told["pages"], told["page"], told["per-page"]) == (230, 6, page, 45)
        seen += [connection["peer"] for connection in told["connections"]]
    assert seen == [f"192.0.2.{i}:1234" for i in range(230)]
    assert shown(factory, page="7", per_page="45")["connections"] == []
    assert len(shown(factory, per_page="100000000")["connections"]) == 50, "no more than the settings say"
    assert len(shown(factory)["connections"]) == 50


@pytest.mark.parametrize("name", ["page", "per-page"])
@pytest.mark.parametrize("values", [[b""], [b"0"], [b"-1"], [b"1e3"], [b"\xd9\xa1"], [b"9999999999"], [b"1", b"2"]])
def test_a_wrong_page_is_refused(factory: EchoFactory, name: str, values: list[bytes]) -> None:
    answer = answered(factory, {name.encode(): values})
    assert (answer.status, answer.body) == (
        400,
        f"{name} must be a whole number of at least 1, given once.\n".encode(),
    )

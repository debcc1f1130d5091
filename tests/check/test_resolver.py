"""The target's addresses: found, not found, and never answered."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from echod.check.report import CheckOutcome, Step
from echod.check.resolver import Resolver
from tests.check.checking import check, good
from tests.odd_server import OddServer


@pytest_twisted.ensureDeferred
async def test_another_address_is_tried_if_one_refuses() -> None:
    def resolve(_host: str, port: int, *_: object) -> list[Any]:
        return [(socket.AF_INET6, 1, 6, "", ("::1", port, 0, 0)), (socket.AF_INET, 1, 6, "", ("127.0.0.1", port))]

    with OddServer(good) as server:
        report = await check(f"ws://my_service:{server.port}", getaddrinfo=resolve)
    assert report.outcome is CheckOutcome.OK
    assert report.addresses == ["::1", "127.0.0.1"]
    assert report.peer == f"127.0.0.1:{server.port}"


@pytest_twisted.ensureDeferred
async def test_a_name_that_does_not_resolve() -> None:
    report = await check("ws://nothing.invalid")
    assert (report.outcome, report.step) == (CheckOutcome.NO_CONNECTION, Step.DNS)
    assert report.what.startswith("nothing.invalid doesn't resolve: ")
    assert report.addresses == []


@pytest_twisted.ensureDeferred
async def test_a_name_without_an_address() -> None:
    report = await check("ws://a.example", getaddrinfo=lambda *_: [])
    assert report.what == "a.example doesn't resolve: it has no address"


@pytest_twisted.ensureDeferred
async def test_a_name_server_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, heard = threading.Event(), Deferred[None]()
    resolved = Resolver._resolved

    def hear(resolver: Resolver, *result: Any) -> None:
        resolved(resolver, *result)
        heard.callback(None)

    def resolve(*_: object) -> list[Any]:
        go_on.wait(30)
        return []

    monkeypatch.setattr(Resolver, "_resolved", hear)
    try:
        report = await check("ws://a.example", getaddrinfo=resolve, timeout=0.2)
    finally:
        go_on.set()
    await heard  # else the late answer would come in a turn of another test
    assert (report.outcome, report.step, report.what) == (
        CheckOutcome.TIMEOUT,
        Step.DNS,
        "a.example didn't resolve within 200ms",
    )

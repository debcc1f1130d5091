"""The express lane in the running service, how the start names it, and how ECHOD_NATIVE chooses it."""

from __future__ import annotations

import io
import sys
from collections.abc import Generator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from echod.lane.native import Native
from echod.options import Options
from echod.run.report import describe_lane
from tests.client import Client
from tests.frames import (
    CLOSE,
    Frame,
    close_payload,
)
from tests.loop import bed
from tests.reactor import until
from tests.run.test_service import address, make


@pytest_twisted.inlineCallbacks
def test_the_service_with_the_lane(native: Native, lines: list[str]) -> Generator[Any, Any, None]:
    service = make("tcp:0:interface=127.0.0.1", native=native)
    service.startService()
    factory = service.factory
    assert factory is not None
    assert f"express lane: pump and codec ({native.isa})" in lines
    clients = []
    for _ in range(20):
        clients.append((yield deferToThread(Client, address(lines))))
    for client in clients:
        for size in (0, 5, 200_000):
            assert (yield deferToThread(client.echo, b"x" * size)) == b"x" * size
    assert all(connection.lease is not None for connection in factory.live)
    assert factory.count == 20
    stopped = service.stopService()
    for client in clients:
        assert (yield deferToThread(client.frame)) == Frame(CLOSE, close_payload(1001, "going away"))
        assert (yield deferToThread(client.leave)) == b""
    yield stopped
    assert factory.lane is None


@pytest_twisted.inlineCallbacks
def test_the_service_aborts_leased_connections(native: Native, lines: list[str]) -> Generator[Any, Any, None]:
    service = make("tcp:0:interface=127.0.0.1", native=native)
    service.startService()
    factory = service.factory
    assert factory is not None
    client = yield deferToThread(Client, address(lines))
    with client.socket:
        yield until(lambda: all(connection.lease is not None for connection in factory.live))
        stopped = service.stopService()
        factory.abort_all()
        yield stopped
        assert factory.lane is None


def test_the_lane_is_named(native: Native) -> None:
    with bed(None) as made:
        assert describe_lane(None, made.factory) == "off, Autobahn serves everything"
    with bed(native) as made:
        assert describe_lane(native, made.factory) == f"pump and codec ({native.isa})"


def test_the_environment_chooses(native: Native, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(**environment: str) -> Native | None:
        options = Options(environment)
        options.parseOptions([])
        return options.native

    assert chosen() == chosen(ECHOD_NATIVE="1") == native
    assert chosen(ECHOD_NATIVE="0") is None
    monkeypatch.setitem(sys.modules, "echod.lane.native._native", None)
    assert chosen() is None
    for environment, words in (
        ({"ECHOD_NATIVE": "1"}, "is not built"),
        ({"ECHOD_NATIVE": "yes"}, "ECHOD_NATIVE=yes: expected 1"),
    ):
        err = io.StringIO()
        monkeypatch.setattr("sys.__stderr__", err)
        with pytest.raises(SystemExit) as exit_:
            chosen(**environment)
        assert exit_.value.code == 1
        assert err.getvalue().startswith("echod: ")
        assert words in err.getvalue()
        assert err.getvalue().count("\n") == 1

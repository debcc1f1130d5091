"""`EchoProtocol.onMessage` is what echoes wherever the express lane doesn't."""

from __future__ import annotations

import ast
import inspect

import pytest

from echod import echo
from echod.echo import EchoProtocol
from tests.fakes import Peer, make_factory
from tests.frames import BINARY, TEXT, client_frame, server_frame


@pytest.mark.parametrize("target", ["/", "/json", "/?delay=0s&fragment=1000", "/?ping=1s"])
def test_each_message_goes_through_it(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[bytes, bool]] = []
    echoing = EchoProtocol.onMessage

    def watched(self: EchoProtocol, payload: bytes, isBinary: bool) -> None:
        seen.append((payload, isBinary))
        echoing(self, payload, isBinary)

    monkeypatch.setattr(EchoProtocol, "onMessage", watched)
    peer = Peer(make_factory())
    peer.open(target)
    assert peer.send(client_frame(TEXT, b"1")) == server_frame(TEXT, b"1")
    messages = [(b"1", False)]
    if target != "/json":
        assert peer.send(client_frame(BINARY, b"\xff")) == server_frame(BINARY, b"\xff")
        messages.append((b"\xff", True))
    assert seen == messages
    peer.lose()


def test_it_fits_on_one_screen() -> None:
    source = inspect.getsource(echo)
    assert len(source.splitlines()) <= 25
    (kind,) = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in kind.body if isinstance(node, ast.FunctionDef)] == ["onMessage"]

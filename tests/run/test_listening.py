"""Listening: how sockets are prepared, and the message for a failure."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import CannotListenError

from echod.run.listening import describe_failure, prepare_socket


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CannotListenError("any", 80, OSError(13, "Permission denied")), "Permission denied"),
        (CannotListenError("any", "/socket", OSError(98, "Address already in use")), "Address already in use"),
        (ValueError("one\ntwo"), "one two"),
    ],
)
def test_failures_are_told_on_one_line(error: Exception, text: str) -> None:
    assert describe_failure(error) == text


def test_the_backlog_is_set_where_there_is_a_socket() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        port: Any = SimpleNamespace(socket=server)
        prepare_socket(port, 100)
        clients = [socket.create_connection(server.getsockname(), timeout=5) for _ in range(50)]
        for client in clients:
            client.close()
    other: Any = SimpleNamespace()
    prepare_socket(other, 100)

"""The numbers of connections."""

from __future__ import annotations

import os
import socket

from echod.websocket.numbers import Numbers


def test_no_two_are_the_same() -> None:
    numbers = Numbers()
    numbers.prefix = "7-"
    assert (numbers.new(), numbers.take(None), numbers.take(-1), numbers.take(0)) == ("7-1", "7-2", "7-3", "7-4")


def test_a_socket_keeps_its_number_until_it_is_taken() -> None:
    numbers = Numbers()
    one, other = socket.socketpair()
    with one, other:
        assert [numbers.of_socket(it.fileno()) for it in (one, other, one)] == ["1", "2", "1"]
        assert numbers.take(one.fileno()) == "1"
        assert numbers.take(one.fileno()) == "3", "somebody keeps the first already"


def test_a_descriptor_that_is_another_connection_s_now() -> None:
    numbers = Numbers()
    pair, others = socket.socketpair(), socket.socketpair()
    descriptor = pair[0].fileno()
    assert numbers.of_socket(descriptor) == "1"
    os.dup2(others[0].fileno(), descriptor)
    assert numbers.of_socket(descriptor) == "2"
    os.dup2(others[1].fileno(), descriptor)
    assert numbers.take(descriptor) == "3"
    for each in (*pair, *others):
        each.close()

"""Signals: SIGTERM from the first moment of a start, the handlers of the service, and what ends a process."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator

import pytest

from echod.run import signals
from echod.run.signals import (
    end_with_parent,
    handle,
    handle_rotation,
    handle_sigterm_alone,
    has_lost_terminal,
    hear_sigterm,
    kill_after,
)


@pytest.fixture
def _handler() -> object:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("_handler")
def test_sigterm_ends_process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    hear_sigterm(1)
    signal.raise_signal(signal.SIGTERM)
    assert ended == [0]


@pytest.mark.usefixtures("_handler")
def test_another_process_keeps_the_default_and_gets_a_blocked_signal() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    signal.raise_signal(signal.SIGTERM)
    hear_sigterm(os.getpid())
    assert heard == [signal.SIGTERM]


@pytest.fixture
def _handlers() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def note(number: int, frame: object) -> None:
    """Do nothing: the test only looks at which handler is installed."""


@pytest.mark.usefixtures("_handlers")
def test_which_signals_are_handled() -> None:
    three = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    for number in three:
        signal.signal(number, signal.SIG_DFL)
    handle(note)
    assert [signal.getsignal(number) for number in three] == 3 * [note]
    handle_sigterm_alone(note)
    assert [signal.getsignal(number) for number in three] == [note, signal.SIG_IGN, signal.SIG_IGN]
    handle(note)
    assert [signal.getsignal(number) for number in three] == [note, signal.SIG_IGN, signal.SIG_IGN], "as under nohup"


@pytest.mark.usefixtures("_handlers")
def test_a_log_file_is_rotated_unless_the_signal_means_something_else() -> None:
    rotated: list[int] = []
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    for number in (1, 2):
        handle_rotation(lambda number=number: rotated.append(number))  # type: ignore[misc]
    signal.raise_signal(signal.SIGUSR1)
    assert rotated == [1]


def test_the_kernel_ends_a_stuck_process() -> None:
    kill_after(599.5)
    assert 599 <= signal.alarm(0) <= 600


def test_a_signal_is_named() -> None:
    assert signals.describe(9) == "SIGKILL"
    assert signals.describe(35) == "signal 35", "a real-time signal"


def test_a_lost_terminal_differs_from_a_present_one_and_from_none() -> None:
    master, slave = os.openpty()
    assert not has_lost_terminal(slave)
    os.close(master)
    assert has_lost_terminal(slave)
    os.close(slave)
    with open(os.devnull) as null:
        assert not has_lost_terminal(null.fileno())


def test_the_kernel_ends_a_process_with_its_parent() -> None:
    libc, death_signal = ctypes.CDLL(None), ctypes.c_int()
    end_with_parent()
    libc.prctl(2, ctypes.byref(death_signal))  # PR_GET_PDEATHSIG
    libc.prctl(1, 0)
    assert death_signal.value == signal.SIGTERM

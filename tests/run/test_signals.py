"""Signals: those that are heard from the first moment on, those that are handled, and those that end a process."""

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
def test_process_1_ends_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    hear_sigterm(1)
    signal.raise_signal(signal.SIGTERM)
    assert ended == [0]


@pytest.mark.usefixtures("_handler")
def test_another_has_the_default_and_hears_what_was_blocked() -> None:
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
    """Handle a signal, for a test that looks at the handlers alone."""


@pytest.mark.usefixtures("_handlers")
def test_those_that_are_handled() -> None:
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


def test_the_kernel_ends_what_is_stuck() -> None:
    kill_after(599.5)
    assert 599 <= signal.alarm(0) <= 600


def test_a_signal_is_named() -> None:
    assert signals.describe(9) == "SIGKILL"
    assert signals.describe(35) == "signal 35", "a real-time signal"


def test_a_lost_terminal_is_told_from_one_that_is_there_and_from_none() -> None:
    master, slave = os.openpty()
    assert not has_lost_terminal(slave)
    os.close(master)
    assert has_lost_terminal(slave)
    os.close(slave)
    with open(os.devnull) as null:
        assert not has_lost_terminal(null.fileno())


def test_the_kernel_ends_it_with_its_parent() -> None:
    libc, death_signal = ctypes.CDLL(None), ctypes.c_int()
    end_with_parent()
    libc.prctl(2, ctypes.byref(death_signal))  # PR_GET_PDEATHSIG
    libc.prctl(1, 0)
    assert death_signal.value == signal.SIGTERM

"""A little of the fuzzer in each test run, the same every time, and what it has found once."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings

from echod import native
from tests import frames
from tests.fuzz.material import Case, cases
from tests.fuzz.subject import Fault, converse, judge

NATIVE = native.load(None)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_any_octets_cut_anywhere(case: Case) -> None:
    judge(case, NATIVE)


def test_the_material_is_worth_it() -> None:
    """Enough of it gets through the handshake, and enough of that through the frames."""
    opened: list[Case] = []
    echoed: list[frames.Frame] = []
    closed: list[frames.Frame] = []

    @settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def look(case: Case) -> None:
        outcome = converse([case.octets], None)
        if outcome.answer.startswith(b"HTTP/1.1 101 "):
            opened.append(case)
            found, _ = frames.split(outcome.answer.partition(b"\r\n\r\n")[2])
            echoed.extend(frame for frame in found if frame.opcode in (frames.TEXT, frames.BINARY))
            closed.extend(frame for frame in found if frame.opcode == frames.CLOSE)

    look()
    assert len(opened) > 50
    assert len(echoed) > 20
    assert len({frame.payload[:2] for frame in closed}) >= 4


def test_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr("echod.protocol.EchoProtocol._echo", fail)
    with pytest.raises(Fault, match="on purpose"):
        converse([frames.handshake() + frames.client_frame(frames.TEXT, b"x", fin=False) + frames.client_frame(frames.CONTINUATION)], None)


def test_another_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.subject._DATE", re.compile(rb"(?!)"))
    answers = iter(range(100))
    monkeypatch.setattr("echod.protocol.formatdate", lambda **_: str(next(answers)))
    with pytest.raises(Fault, match="differs at octet"):
        judge(Case(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", (3,)), None)

"""The trace: lines of the log become values."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from echod.testing import Connection, End, Frame, Message, Trace, TraceError

FRAME: dict[str, Any] = {
    "direction": "in",
    "opcode": 1,
    "type": "text",
    "fin": True,
    "rsv": [1],
    "masked": True,
    "length": 5,
}


def line(event: str | None, number: str = "1", **fields: Any) -> str:
    """Return a line of the log."""
    told = {"message": "…", **({"event": event, "connection": number} if event else {}), **fields}
    return json.dumps(told) + "\n"


def opening(number: str = "1") -> str:
    """Return the line of an opening."""
    return line("opening", number, peer="127.0.0.1", request="GET / HTTP/1.1", fields=[["Host", "a"]])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return an empty log."""
    path = tmp_path / "log"
    path.touch()
    return path


def test_every_event_has_its_place(log: Path) -> None:
    log.write_text(
        "a warning of Python\n"
        + line(None, message="listening on ws://127.0.0.1:8080")
        + opening()
        + line("answer", status="HTTP/1.1 101 Switching Protocols", fields=[])
        + line("frame", **FRAME, payload="hello")
        + line("message", type="text", length=5, payload="hello")
        + line("frame", **{**FRAME, "direction": "out", "rsv": [], "masked": False}, payload="hello")
        + line("frame", **FRAME, payload="he", came=2)
        + line("end", outcome="clean", closer="client", code=1000, reason="bye", seconds=0.5)
        + opening("2")
        + line("end", "2", outcome="refused", seconds=0.0)
    )
    first, second = Trace(log)()
    assert first == Connection(
        number="1",
        peer="127.0.0.1",
        request="GET / HTTP/1.1",
        fields=(("Host", "a"),),
        status="HTTP/1.1 101 Switching Protocols",
        received=[
            Frame("text", 1, True, (1,), True, 5, 5, "hello"),
            Frame("text", 1, True, (1,), True, 5, 2, "he"),
        ],
        messages=[Message("text", 5, "hello")],
        sent=[Frame("text", 1, True, (), False, 5, 5, "hello")],
        end=End("clean", "client", 1000, "bye", 0.5),
    )
    assert second.end == End("refused", None, None, None, 0.0)


def test_a_line_that_is_not_whole_yet_is_left_for_later(log: Path) -> None:
    log.write_text(opening() + opening("2")[:-1])
    assert [connection.number for connection in Trace(log)()] == ["1"]


def test_a_trace_has_only_connections_that_were_opened_since_it_began(log: Path) -> None:
    log.write_text(opening() + opening("2")[:10])
    trace = Trace(log, log.stat().st_size)
    with log.open("a") as more:
        more.write(opening("2")[10:] + line("frame", **FRAME, payload="late") + opening("3"))
    assert [connection.number for connection in trace()] == ["3"]


def test_it_waits_for_what_is_to_come(log: Path) -> None:
    def write_later() -> None:
        time.sleep(0.1)
        log.write_text(opening())

    writer = threading.Thread(target=write_later)
    writer.start()
    assert len(Trace(log)(lambda found: found, timeout=60)) == 1
    writer.join()


def test_what_is_asked_of_a_connection_may_come_before_the_connection(log: Path) -> None:
    def write() -> None:
        while not asked.is_set():
            time.sleep(0.001)
        log.write_text(opening() + line("end", outcome="refused", seconds=0.0))

    def has_ended(found: list[Connection]) -> object:
        asked.set()
        return found[0].end

    asked = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    (connection,) = Trace(log)(has_ended, timeout=60)
    writer.join()
    assert connection.end is not None


def test_it_does_not_wait_for_ever(log: Path) -> None:
    log.write_text(opening())
    with pytest.raises(TraceError, match=r"^waited 0 s for the trace, which is \[Connection\(number='1', "):
        Trace(log)(lambda found: len(found) == 2, timeout=0)


def test_missing_lines_are_an_error(log: Path) -> None:
    log.write_text(opening() + line(None, message="3 lines left out in the last second because of --log-frames-rate"))
    with pytest.raises(TraceError, match=r"^3 lines left out"):
        Trace(log)()

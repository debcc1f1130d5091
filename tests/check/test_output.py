"""What a check writes: the report in its forms, and the line of progress."""

from __future__ import annotations

import io
import json

import pytest

from echod.check import output
from echod.check.output import Progress, as_json, as_text, statistics_of
from tests.check.reports import URL, failed, ok
from tests.check.terminal import Terminal


def test_statistics() -> None:
    assert statistics_of([]) == {}
    assert statistics_of([3.0]) == {"min": 3.0, "median": 3.0, "p99": 3.0, "max": 3.0}
    hundred = [float(number) for number in range(100, 0, -1)]
    assert statistics_of(hundred) == {"min": 1.0, "median": 50.5, "p99": 99.0, "max": 100.0}


def test_a_good_report() -> None:
    report = ok(tls="TLSv1.3, A", subprotocol="a", extensions=["permessage-deflate"], notes=["odd"])
    assert as_text(report).splitlines() == [
        "OK - 4 messages of 64KiB echoed, median 3 ms | min=0.001000s median=0.003000s p99=1.500000s max=1.500000s",
        "note: odd",
        f"URL: {URL}",
        "address: [::1]:9000",
        "TLS: TLSv1.3, A",
        "subprotocol: a",
        "extensions: permessage-deflate",
        "steps: DNS 0.1 ms, TCP 250 ms",
        "round trip: min 1 ms, median 3 ms, p99 1.5 s, max 1.5 s",
    ]
    record = json.loads(as_json(report))
    assert record == {
        "ok": True,
        "status": 0,
        "summary": "OK - 4 messages of 64KiB echoed, median 3 ms",
        "step": None,
        "what": None,
        "seen": [],
        "notes": ["odd"],
        "url": URL,
        "addresses": ["::1", "127.0.0.1"],
        "peer": "[::1]:9000",
        "tls": "TLSv1.3, A",
        "subprotocol": "a",
        "extensions": ["permessage-deflate"],
        "size": 65536,
        "messages": 4,
        "echoed": 4,
        "steps": {"DNS": 0.0001, "TCP": 0.25},
        "round_trip": {"min": 0.001, "median": 0.003, "p99": 1.5, "max": 1.5},
    }


def test_a_bad_report() -> None:
    report = failed(seen=["came: x"])
    assert as_text(report).splitlines() == [
        "CRITICAL - TCP: refused \\x7c by x",
        "came: x",
        f"URL: {URL}",
        "address: ::1",
    ]
    record = json.loads(as_json(report))
    assert (record["ok"], record["status"], record["step"], record["what"]) == (False, 2, "TCP", "refused | by x")
    assert (record["seen"], record["round_trip"], record["peer"], record["echoed"]) == (["came: x"], None, None, 0)
    assert as_json(report).count("\n") == 1


def test_progress_is_for_terminals_and_not_faster_than_one_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(output, "monotonic", lambda: now)
    monkeypatch.setenv("COLUMNS", "10")
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        progress = Progress(out)
        progress.tell("one")
        progress.tell("too soon")
        now += 0.1
        progress.tell("a line longer than that")
        progress.end()
    assert terminal.getvalue() == "\r\x1b[Kone\r\x1b[Ka line lo\r\x1b[K"
    assert file.getvalue() == ""

"""Reports of checks that went well and badly."""

from __future__ import annotations

from typing import Any

from echod.check.report import CheckOutcome, Plan, Report, Step
from echod.http.ws_url import parse

URL = "ws://localhost:9000/x"


def ok(**values: Any) -> Report:
    plan = Plan(parse(URL), count=2, size=64 * 1024)
    report = Report(plan, step=Step.CLOSE, addresses=["::1", "127.0.0.1"], peer="[::1]:9000", **values)
    report.round_trips = [0.002, 0.001, 0.004, 1.5]
    report.times = {Step.DNS: 0.0001, Step.TCP: 0.25}
    return report


def failed(**values: Any) -> Report:
    return Report(
        Plan(parse(URL)),
        outcome=CheckOutcome.NO_CONNECTION,
        step=Step.TCP,
        what="refused | by x",
        addresses=["::1"],
        **values,
    )

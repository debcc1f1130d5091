"""A worker's way to its parent: its log, and why it can't start."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel

from echod.run.workers.to_parent import LinkToParent, ParentLog, tell_refusal
from tests.run.workers.pipes import Pipes


def test_the_log_goes_to_the_parent(pipes: Pipes) -> None:
    log = ParentLog()
    logger = Logger(namespace="some.where", observer=log)
    logger.warn("{what} {{}}", what="ä {b}", echod_unlimited=True, echod_fields={"connection": "7-1"})
    expected = {
        "namespace": "some.where",
        "level": "warn",
        "kind": "{what} {{}}",
        "unlimited": True,
        "fields": {"connection": "7-1"},
        "text": "ä {b} {}",
    }
    assert pipes.read() == ["tell", "log", expected]
    told: list[Any] = []
    log.tell = lambda kind, value: told.append((kind, value["text"], value["level"]))
    try:
        raise ValueError("why")
    except ValueError:
        logger.failure("failed")
    ((kind, text, level),) = told
    assert (kind, level) == ("log", LogLevel.critical.name)
    assert text.startswith("failed\nTraceback")


def test_the_reason_for_a_failed_start_goes_to_the_parent(pipes: Pipes) -> None:
    tell_refusal("no ä")
    assert pipes.read() == ["tell", "refused", "no ä"]


def test_a_parent_that_is_behind_gets_no_more_lines() -> None:
    log = ParentLog()
    told: list[str] = []
    log.tell = lambda _, value: told.append(value["text"])
    parent = LinkToParent(lambda *_: None, lambda *_: None, lambda: None, log)
    logger = Logger(observer=log)
    parent.pauseProducing()
    for _ in range(3):
        logger.info("too much")
    parent.resumeProducing()
    logger.info("one more")
    assert told == ["3 lines left out, which the log had no time for", "one more"]
    parent.stopProducing()

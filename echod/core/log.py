"""How the log is written, and how much of it: formats, a rate for each kind of event, and text that a client sent.

Knows Twisted's log events and the three formats. Must never know what an event is about: who logs gives a format and
values, and a client's octets only through `escape` and `cut`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import TextIO

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import (
    FileLogObserver,
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    eventAsText,
    formatEvent,
    formatTime,
)
from zope.interface import implementer


class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


EVENTS_PER_SECOND = 4
"""Events of one kind (same namespace and format) that are written in a second; the rest are counted.

There are two kinds that clients bring about, so that with the line that counts these make 9."""

KINDS = 256
"""Kinds that are told apart in one second; all others share one place, so that the table is bounded."""

TEXT_SIZE = 400
"""Octets of an event's text, so that with time and namespace the line stays under 512."""

LONG_TEXT_SIZE = 16 * 1024
"""The same where all of it is wanted: tracebacks, and messages that the operator asked to see."""

_LONG_LEVELS = (LogLevel.error, LogLevel.critical)

# sd-daemon(3): a line's priority for the journal.
_PRIORITY = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}

UNLIMITED = "echod_unlimited"
"""Key of an event that is never left out: what the operator asked for line by line."""

SERVICE = "echod.service"
"""The namespace of what the daemon logs about itself. It is part of each line, so it does not change with the names of
files."""

KIND = "echod_kind"
"""Key of an event's kind, where that is not its format."""


def _cut(text: str, event: LogEvent) -> str:
    limit = LONG_TEXT_SIZE if event.get("log_level") in _LONG_LEVELS or event.get(UNLIMITED) else TEXT_SIZE
    octets = text.encode(errors="backslashreplace")
    return text if len(octets) <= limit else octets[: limit - 3].decode(errors="ignore") + "…"


def _text_line(event: LogEvent) -> str | None:
    text = _cut(eventAsText(event, includeTimestamp=False, includeSystem=False), event)
    if not text:
        return None
    namespace = event.get("log_namespace", "-")
    return f"{formatTime(event.get('log_time'))} [{namespace}] " + text.replace("\n", "\n\t") + "\n"


def _json_line(event: LogEvent) -> str | None:
    level = event.get("log_level", LogLevel.info)
    record = {
        "time": formatTime(event.get("log_time")),
        "level": level.name,
        "namespace": event.get("log_namespace", "-"),
        "message": _cut(formatEvent(event), event),
    }
    if (failure := event.get("log_failure")) is not None:
        record["traceback"] = _cut(failure.getTraceback(), event)
    return json.dumps(record, ensure_ascii=False) + "\n"


def _journal_line(event: LogEvent) -> str | None:
    level = event.get("log_level", LogLevel.info)
    text = _cut(eventAsText(event, includeTimestamp=False, includeSystem=False), event)
    return "".join(f"<{_PRIORITY[level]}>{line}\n" for line in text.splitlines()) or None


_LINES: dict[LogFormat, Callable[[LogEvent], str | None]] = {
    LogFormat.TEXT: _text_line,
    LogFormat.JSON: _json_line,
    LogFormat.JOURNAL: _journal_line,
}


@implementer(ILogObserver)
class Limiter:
    """Pass on what may be written: nothing below `info`, and `EVENTS_PER_SECOND` of each kind.

    What was left out in a second is counted in one line at its end. The clock comes with `start`; before that nothing
    is left out, so that no line of the start-up is lost.
    """

    def __init__(self, observer: ILogObserver) -> None:
        self._observer = observer
        self._clock: IReactorTime | None = None
        self._seen: Counter[object] = Counter()
        self._left_out: Counter[str] = Counter()
        self._call: IDelayedCall | None = None

    def start(self, clock: IReactorTime) -> None:
        """Begin to limit."""
        self._clock = clock

    def stop(self) -> None:
        """End the current second at once and limit no longer, so that no delayed call is left behind."""
        self._clock = None
        if self._call is not None:
            self._call.cancel()
            self._end_of_second()

    def __call__(self, event: LogEvent) -> None:
        """Take one event of Twisted's log."""
        if event.get("log_level") is LogLevel.debug:
            return
        if self._clock is None or event.get(UNLIMITED):
            self._observer(event)
            return
        if self._call is None:
            self._call = self._clock.callLater(1, self._end_of_second)
        kind: object = (event.get("log_namespace"), event.get(KIND) or event.get("log_format"))
        if kind not in self._seen and len(self._seen) >= KINDS:
            kind = None
        self._seen[kind] += 1
        if self._seen[kind] <= EVENTS_PER_SECOND:
            self._observer(event)
        else:
            self._left_out[str(event.get("log_namespace"))] += 1

    def _end_of_second(self) -> None:
        self._call = None
        self._seen.clear()
        left_out, self._left_out = self._left_out, Counter()
        log = Logger(namespace=__name__, observer=self._observer)
        if left_out:
            names = ", ".join(f"{count} of {name}" for name, count in left_out.most_common(4))
            log.warn("{count} lines left out in the last second: {names}", count=left_out.total(), names=names)


def make_observer(out: TextIO, log_format: LogFormat) -> Limiter:
    """Make the observer that writes to `out`."""
    if hasattr(out, "reconfigure"):
        # A lone surrogate or a locale without UTF-8 must not lose a line.
        out.reconfigure(errors="backslashreplace")
    return Limiter(FileLogObserver(out, _LINES[log_format]))


class AutobahnLog:
    """Stands where Autobahn keeps its logger: passes on errors, in bounded number and size, and drops the rest.

    Autobahn logs what the client sent, at every level, and builds the arguments whether or not anybody listens
    (autobahn/websocket/protocol.py); what echod has to say of a connection it says itself.
    """

    _log = Logger(namespace="autobahn")

    def trace(self, *_: object, **__: object) -> None:
        """Drop it."""

    debug = info = warn = trace

    def error(self, message: str, **values: object) -> None:
        """Pass it on: Autobahn's own failure, not the client's."""
        self._log.error(message, **values)

    critical = failure = error


def stderr_line(line: str) -> None:
    """Write one line to the real standard error, which twistd replaces with the log."""
    print(line, file=sys.__stderr__)

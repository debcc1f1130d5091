"""How the log is written, and how much of it: the formats, and a rate for each kind of event.

Knows Twisted's log events and the three formats. Must never know what an event is about: a caller that logs gives a
format and values, and gives text from a client only after `printable` has escaped and cut it.
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
    """The format of a log line."""

    TEXT = "text"
    JSON = "json"
    JOURNAL = "journal"


EVENTS_PER_SECOND = 4
"""How many events of one kind (same namespace and format) are written in a second. The others are only counted.

Clients can cause two kinds of events, so that with the line that counts there are at most 9 lines."""

KINDS = 256
"""How many kinds are told apart in one second. All further kinds share one place, so that the table is bounded."""

TEXT_SIZE = 400
"""The longest text of an event in bytes. With time and namespace the line stays under 512 bytes."""

LONG_TEXT_SIZE = 16 * 1024
"""The longest text in bytes of an event that is wanted whole: a traceback, or a message that the operator asked for."""

_LONG_LEVELS = (LogLevel.error, LogLevel.critical)

# The priority of a line in the journal (sd-daemon(3)).
_PRIORITY = {LogLevel.debug: 7, LogLevel.info: 6, LogLevel.warn: 4, LogLevel.error: 3, LogLevel.critical: 2}

NOISE = ("log_legacy", "twisted.application.", "twisted.internet.base", "twisted.scripts.")
"""How the namespaces begin in which Twisted informs about itself: its ports, its loop, and twistd or twist. Of all this
the operator wants to know only what is wrong, which has a higher level."""

FAILURES = ("Unable to ", "Warning: ")
"""How the texts begin of those lines among them that tell of something wrong all the same: that the list of plugins
can't be written, or the pid file not be removed."""

NOISE_OF_FACTORIES = ("Starting factory ", "Stopping factory ")
"""How the formats begin of the lines that Twisted logs in the namespace of each factory that does not forbid it."""

UNLIMITED = "echod_unlimited"
"""The key that marks an event which is never left out, because the operator asked for each such line."""

SERVICE = "echod.service"
"""The namespace of the lines that the daemon logs about itself. It does not change with the names of files, because it
is part of each line."""

KIND = "echod_kind"
"""The key of an event's kind, if the kind is not the format."""

FIELDS = "echod_fields"
"""The key of a dictionary with what the event is about: in the format `json` each entry is a field of its own. Like any
text of an event, the values must be escaped and cut."""


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
    record |= event.get(FIELDS, {})
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


def is_noise(event: LogEvent) -> bool:
    """Tell whether an event tells an operator nothing."""
    level = event.get("log_level")
    if level is not LogLevel.info:
        return level is LogLevel.debug
    if (event.get("log_namespace") or "").startswith(NOISE):
        return not formatEvent(event).startswith(FAILURES)
    return (event.get("log_format") or "").startswith(NOISE_OF_FACTORIES)


@implementer(ILogObserver)
class Limiter:
    """Passes on the events that are to be written: no noise, and `EVENTS_PER_SECOND` of each kind.

    At the end of a second one line tells how many events were left out. The limit begins with `start`, which brings the
    clock, so that no line of the start is lost.
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
        """Stop limiting. The current second ends at once, so that no delayed call is left behind."""
        self._clock = None
        if self._call is not None:
            self._call.cancel()
            self._end_of_second()

    def __call__(self, event: LogEvent) -> None:
        """Take one event of Twisted's log."""
        if is_noise(event):
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
        log = Logger(namespace="echod.log", observer=self._observer)
        if left_out:
            names = ", ".join(f"{count} of {name}" for name, count in left_out.most_common(4))
            log.warn("{count} lines left out in the last second: {names}", count=left_out.total(), names=names)


def make_observer(out: TextIO, log_format: LogFormat) -> Limiter:
    """Make the observer that writes to `out`."""
    if hasattr(out, "reconfigure"):
        # No line may be lost because of a lone surrogate or a locale without UTF-8. JSON is UTF-8 in any locale (RFC
        # 8259 section 8.1), and has no escape such as \\xe9.
        encoding = "utf-8" if log_format is LogFormat.JSON else None
        out.reconfigure(encoding=encoding, errors="backslashreplace")
    return Limiter(FileLogObserver(out, _LINES[log_format]))


class AutobahnLog:
    """Takes the place of Autobahn's logger: it passes on errors, limited in number and size, and drops the rest.

    Autobahn logs at every level what the client sent, and builds the arguments even if nobody listens
    (autobahn/websocket/protocol.py). echod itself logs what is worth telling of a connection.
    """

    _log = Logger(namespace="autobahn")

    def trace(self, *_: object, **__: object) -> None:
        """Drop the line."""

    debug = info = warn = trace

    def error(self, message: str, **values: object) -> None:
        """Pass the line on: it tells of a failure of Autobahn, not of the client."""
        self._log.error(message, **values)

    critical = failure = error


def stderr_line(line: str) -> None:
    """Write one line to the real standard error, which twistd replaces with the log, if the process has one."""
    if sys.__stderr__ is not None:  # `print` would take standard output instead
        print(line, file=sys.__stderr__)

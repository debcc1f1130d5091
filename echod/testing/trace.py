"""What clients sent, frame by frame, read from the log of `--log-frames` and `--log-messages` in the format `json`.

The log is the simplest source that is honest: the daemon writes a line before it processes what the line is about. So
whatever a client has an answer to is in the trace when the client has the answer. The log's limits are those of the
trace: a payload is text that is escaped and cut after 256 bytes. The frames of a deflated message are shown as they
came, and the message is shown inflated.

Knows the fields of these lines, as docs/operating.md lists them. Must never know the daemon.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

POLL_INTERVAL = 0.01
"""Seconds between two looks at the log."""

LEFT_OUT = ("because of --log-frames-rate", "which the log had no time for")
"""How the lines end that say that others are missing."""


class TraceError(Exception):
    """The trace is not what was waited for, or is incomplete."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it was on the wire (RFC 6455 section 5.2)."""

    type: str
    """`text`, `binary`, `continuation`, `close`, `ping`, `pong`, or `opcode 11` and the like."""
    opcode: int
    fin: bool
    rsv: tuple[int, ...]
    """The numbers of the reserved bits that are set: 1 marks a deflated message."""
    masked: bool
    length: int
    """The bytes of the payload, as the frame's header says."""
    came: int
    """How many of them have come: fewer than `length` if the connection ended in the middle of the frame."""
    payload: str
    r"""The payload without its mask, as the log shows it: on one line, escaped as Python would (`\n`, `\x00`), `…` for
    what is beyond 256 bytes. A Close frame's is the code and the reason, such as `1000 bye`."""


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message of a client, inflated."""

    type: str
    """`text` or `binary`."""
    length: int
    """In bytes."""
    payload: str
    """As a frame's; what is beyond 256 characters of a text or 256 bytes is shown as `… (1000 octets)`, the length of
    all."""


@dataclass(frozen=True, slots=True)
class End:
    """How a connection ended."""

    outcome: str
    """As in the metric `echod_connections_total`, such as `clean`."""
    closer: str | None
    """`client` or `server`; None if the connection was never open."""
    code: int | None
    """The close code; 1006 without a Close frame; None if the connection was never open."""
    reason: str | None
    seconds: float
    """The time since the opening handshake."""


@dataclass(slots=True)
class Connection:
    """What a client did on one connection, and what it got."""

    number: str
    """The number in the log and in `/info`."""
    peer: str
    request: str
    """The request line, such as `GET /chat HTTP/1.1`."""
    fields: tuple[tuple[str, str], ...]
    """The header fields of the request: names and values. A value that may be secret is shown as its length."""
    status: str | None = None
    """The status line of the answer; None if there is none yet."""
    received: list[Frame] = field(default_factory=list)
    """The frames that the client sent."""
    messages: list[Message] = field(default_factory=list)
    """The messages in these frames."""
    sent: list[Frame] = field(default_factory=list)
    """The frames that echod sent."""
    end: End | None = None
    """None while the connection is alive."""


class Trace:
    """The connections that were opened since a moment, which is the length of the log then: call the object to get
    them."""

    def __init__(self, log: Path, start: int = 0) -> None:
        self._log = log
        self._start = start

    def __call__(
        self, until: Callable[[list[Connection]], object] | None = None, timeout: float = 10.0
    ) -> list[Connection]:
        """Return the connections in the order of their openings, with what is known of them now.

        With `until`, wait until it returns something true of them. What a client has no answer to, such as the end of
        its connection, is in the trace a moment later. If `until` raises `IndexError`, it looks for a connection or a
        frame that is not there yet. Raises `TraceError` after `timeout` seconds, and if lines are missing in the log.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self._read()
            with suppress(IndexError):
                if until is None or until(found):
                    return found
            if time.monotonic() > deadline:
                raise TraceError(f"waited {timeout:g} s for the trace, which is {found}")
            time.sleep(POLL_INTERVAL)

    def _read(self) -> list[Connection]:
        found: dict[str, Connection] = {}
        for line in self._lines():
            if "event" in line:
                _take(found, line)
            elif line.get("message", "").endswith(LEFT_OUT):
                raise TraceError(line["message"])
        return list(found.values())

    def _lines(self) -> Iterator[dict[str, Any]]:
        with self._log.open("rb") as log:
            if self._start:
                log.seek(self._start - 1)
                log.readline()  # the rest of a line that was not written whole yet
            for line in log:
                if line.startswith(b"{") and line.endswith(b"}\n"):  # the last one may not be written whole yet
                    yield json.loads(line)


def _take(found: dict[str, Connection], line: dict[str, Any]) -> None:
    """Enter what a line tells. A connection that was opened before the trace began is not in it."""
    number = line["connection"]
    if line["event"] == "opening":
        fields = tuple((name, value) for name, value in line["fields"])
        found[number] = Connection(number, line["peer"], line["request"], fields)
    if (connection := found.get(number)) is None:
        return
    match line["event"]:
        case "answer":
            connection.status = line["status"]
        case "frame":
            frames = connection.received if line["direction"] == "in" else connection.sent
            frames.append(_frame(line))
        case "message":
            connection.messages.append(Message(line["type"], line["length"], line["payload"]))
        case "end":
            connection.end = End(
                line["outcome"], line.get("closer"), line.get("code"), line.get("reason"), line["seconds"]
            )


def _frame(line: dict[str, Any]) -> Frame:
    names = ("type", "opcode", "fin", "masked", "length", "payload")
    values = {name: line[name] for name in names}
    return Frame(rsv=tuple(line["rsv"]), came=line.get("came", line["length"]), **values)

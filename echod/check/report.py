"""The plan of a check and its report, both plain values, and the steps that a check goes through.

Must never open a connection or print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from time import perf_counter

from echod.core.printable import escape
from echod.core.quantities import KIB, MIB
from echod.http.ws_url import Target

MAX_SIZE = 256 * MIB
"""Bytes of the longest message that a check sends. The check holds several copies of it."""

MAX_LINE = 200
"""Characters of the longest line that a server can cause."""


class Step(StrEnum):
    """The steps of a check, in their order. TLS is for `wss:` alone. Over HTTP/2, SETTINGS and CONNECT take the place
    of HTTP, and with `wss:` there is ALPN."""

    DNS = "DNS"
    TCP = "TCP"
    TLS = "TLS"
    ALPN = "ALPN"
    SETTINGS = "SETTINGS"
    CONNECT = "CONNECT"
    HTTP = "HTTP"
    UPGRADE = "upgrade"
    ECHO = "echo"
    CLOSE = "close"


class CheckOutcome(IntEnum):
    """How a check ended. The number is the exit status."""

    OK = 0
    WRONG_ECHO = 1
    NO_CONNECTION = 2
    TIMEOUT = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be checked, and how."""

    target: Target
    count: int = 5
    """Messages of each type."""
    size: int = KIB
    """Bytes of each message."""
    timeout: float = 10.0
    """Seconds for the whole check."""
    is_insecure: bool = False
    """Whether any certificate is accepted."""
    subprotocols: tuple[str, ...] = ()
    """Offered to the server, which must choose one of them."""
    fields: tuple[tuple[str, str], ...] = ()
    """More header fields for the opening handshake. A Host or User-Agent here replaces the check's own."""
    offers_compression: bool = False
    is_http2: bool = False
    """Whether the WebSocket is opened over HTTP/2."""


class Fault(Exception):
    """A step that failed: what happened, and lines about what was seen. All of it is safe to print."""

    def __init__(self, step: Step, what: str, seen: Sequence[str] = ()) -> None:
        super().__init__(what)
        self.step = step
        self.what = printable(what)
        self.seen = [printable(line) for line in seen if line]


@dataclass(slots=True)
class Report:
    """The result of a check. All of its texts are safe to print."""

    plan: Plan
    outcome: CheckOutcome = CheckOutcome.OK
    step: Step = Step.DNS
    """The step that failed, or the last step."""
    what: str = ""
    """What failed; empty if nothing did."""
    seen: Sequence[str] = ()
    """Lines about what was seen at the step that failed."""
    notes: list[str] = field(default_factory=list)
    """What is odd, but no failure."""
    addresses: list[str] = field(default_factory=list)
    """The addresses that the host resolved to."""
    peer: str = ""
    """The address that accepted the connection."""
    tls: str = ""
    subprotocol: str = ""
    extensions: list[str] = field(default_factory=list)
    times: dict[Step, float] = field(default_factory=dict)
    """Seconds that each finished step took."""
    round_trips: list[float] = field(default_factory=list)
    """Seconds of each message's round trip, in the order of sending."""
    _began: float = field(default_factory=perf_counter, repr=False, compare=False)
    """When the current step began."""

    def enter(self, step: Step) -> None:
        """Begin a step. The one before ends here."""
        now = perf_counter()
        self.times[self.step] = now - self._began
        self.step, self._began = step, now

    def note(self, text: str) -> None:
        """Add what is odd, but no failure."""
        self.notes.append(printable(text))

    def fail(self, fault: Fault, is_late: bool) -> None:
        """Add what failed. `is_late` tells that the check ran out of time."""
        self.step, self.what, self.seen = fault.step, fault.what, fault.seen
        if is_late:
            self.outcome = CheckOutcome.TIMEOUT
        else:
            self.outcome = CheckOutcome.WRONG_ECHO if fault.step is Step.ECHO else CheckOutcome.NO_CONNECTION


def printable(text: str) -> str:
    """Return `text` escaped and cut, so that a server can neither control the terminal nor fill it."""
    text = escape(text[: MAX_LINE + 1])
    return text if len(text) <= MAX_LINE else text[: MAX_LINE - 1] + "…"

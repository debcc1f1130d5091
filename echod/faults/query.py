"""Reads what a URL asks for: `?delay=250ms&drop=0.1&seed=7` becomes a frozen value, or one line that says why not.

The query is read as browsers read it (the URL standard's `application/x-www-form-urlencoded`, that is
`URLSearchParams`): `&` separates parameters, `+` is a space, `%C3%BC` is ü, and a `%` before anything else is itself.
Unknown names are ignored, because proxies and clients have parameters of their own (`?token=…`). echod's own parameters
are read strictly: each has a cap in `Settings`, and combinations that make no sense (a `reason` without a `close`) are
refused.

Pure. Knows names, values and caps. Must never know a connection. An error never quotes what the client sent, except the
fixed name of a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import unquote_plus

from echod.core.counts import NO_CLOSE_FRAME, NO_CODE
from echod.core.quantities import format_duration, parse_duration
from echod.settings import Compression, Settings, parse_choice

MAX_REASON = 123
"""The most bytes of a Close frame's reason: 125 (RFC 6455 section 5.5) less the two of the code."""

MAX_SEED = 2**32 - 1
"""Seeds up to this one give more sequences than anybody can tell apart."""


class FaultError(ValueError):
    """A parameter that can't be read. The text names the parameter, and quotes nothing else of what the client sent."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What a URL asks for; the defaults mean nothing. Durations are in seconds."""

    delay: float = 0.0
    """Each echo is sent this much later, in order."""

    close: int | None = None
    """The connection is closed with this code. `NO_CODE` and `NO_CLOSE_FRAME` make the client's library report
    these codes."""

    reason: str = ""
    """The reason in that Close frame."""

    abort: bool = False
    """The connection is reset (a TCP RST)."""

    goaway: bool = False
    """The HTTP/2 connection below gets GOAWAY, and ends with its last stream."""

    stall: bool = False
    """The connection is no longer read."""

    after: int = 0
    """How many echoes are sent before the connection is closed, reset or stalled, or gets GOAWAY; 0: none."""

    status: int | None = None
    """The opening handshake is refused with this HTTP status."""

    handshake_delay: float = 0.0
    """The opening handshake is answered this much later."""

    fragment: int | None = None
    """Echoes are sent in frames with at most this many bytes of payload."""

    ping: float | None = None
    """A ping is sent at this interval."""

    drop: float = 0.0
    """The probability that a message is not echoed."""

    seed: int | None = None
    """Decides which messages are lost; None: each connection loses different ones."""

    compression: Compression | None = None
    """How an offer of permessage-deflate is answered, unless the operator has turned compression off; None: as the
    operator has chosen."""

    @property
    def names(self) -> tuple[str, ...]:
        """The faults that differ from their defaults, as they are spelt in a URL. A mode of compression is no fault."""
        found = (field.name for field in fields(self) if getattr(self, field.name) != field.default)
        return tuple(_spell(name) for name in found if name != "compression")


NONE = Faults()
"""The URL asks for nothing."""


def parse(query: str, settings: Settings) -> Faults:
    """Return what the query of a request target asks for: nothing if the operator has turned that off. `query` has no
    `?`. Raises `FaultError`."""
    if not query or not settings.has_faults:
        return NONE
    texts: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, text = pair.partition("=")
        name = unquote_plus(name)
        if name in texts:
            raise FaultError(f"the parameter {name} is given twice")
        if name in _READERS:
            texts[name] = text
    faults = Faults(**{name.replace("-", "_"): _read(name, text, settings) for name, text in texts.items()})
    _check(faults, texts.keys())
    return faults


def _spell(field: str) -> str:
    return field.replace("_", "-")


def _read(name: str, text: str, settings: Settings) -> Any:
    try:
        return _READERS[name](unquote_plus(text, errors="strict"), settings)
    except UnicodeDecodeError:
        raise FaultError(f"the parameter {name} is not UTF-8") from None
    except ValueError as error:
        raise FaultError(f"the parameter {name} {error}") from None


def _check(faults: Faults, given: Any) -> None:
    """Refuse a combination that makes no sense."""
    ends = ("close", "abort", "stall", "goaway")
    for name, needed in (("reason", ("close",)), ("seed", ("drop",)), ("after", ends)):
        if name in given and not any(other in given for other in needed):
            raise FaultError(f"the parameter {name} has no effect without {' or '.join(needed)}")
    if faults.reason and faults.close in (NO_CODE, NO_CLOSE_FRAME):
        raise FaultError("the parameter reason has no effect without a close code to send")
    if faults.abort and faults.stall:
        raise FaultError("the parameter abort cannot be combined with stall")
    if faults.close == NO_CLOSE_FRAME and (faults.abort or faults.stall):
        raise FaultError(f"the parameter close can't be {NO_CLOSE_FRAME} with abort or stall")


# Values. The text of a reader's error is the end of a sentence that begins with the parameter.


def _duration(low: str, high: str) -> Callable[[str, Settings], float]:
    def read(text: str, settings: Settings) -> float:
        seconds = parse_duration(text)
        least, most = getattr(settings, low) if low else 0.0, getattr(settings, high)
        if not least <= seconds <= most:
            raise ValueError(f"is not within {format_duration(least)} and {format_duration(most)}")
        return seconds

    return read


def _count(text: str, least: int, most: int) -> int:
    if not re.fullmatch("[0-9]{1,18}", text) or not least <= int(text) <= most:
        raise ValueError(f"is not a whole number from {least} to {most}")
    return int(text)


def _flag(text: str, _: Settings) -> bool:
    if text:
        raise ValueError("takes no value")
    return True


def _close_code(text: str, _: Settings) -> int:
    # RFC 6455 section 7.4 and IANA's registry: 1004 and 1015 are never sent, 1016 to 2999 are not assigned.
    code = int(text) if re.fullmatch("[0-9]{4}", text) else 0
    if not (1000 <= code <= 1014 and code != 1004) and not 3000 <= code <= 4999:
        raise ValueError("is not a close code: 1000 to 1003, 1005 to 1014, or 3000 to 4999")
    return code


def _reason(text: str, _: Settings) -> str:
    if not 1 <= len(text.encode()) <= MAX_REASON:
        raise ValueError(f"is not 1 to {MAX_REASON} bytes long (in UTF-8)")
    return text


def _probability(text: str, _: Settings) -> float:
    if not re.fullmatch(r"[0-9]\.?|[0-9]?\.[0-9]{1,15}", text) or float(text) > 1:
        raise ValueError("is not a number from 0 to 1")
    return float(text)


def _compression(text: str, _: Settings) -> Compression:
    return parse_choice(Compression, text)


_READERS: dict[str, Callable[[str, Settings], Any]] = {
    "delay": _duration("", "max_delay"),
    "close": _close_code,
    "reason": _reason,
    "abort": _flag,
    "goaway": _flag,
    "stall": _flag,
    "after": lambda text, settings: _count(text, 0, settings.max_after),
    "status": lambda text, _: _count(text, 300, 599),
    "handshake-delay": _duration("", "max_handshake_delay"),
    "fragment": lambda text, settings: _count(text, 1, settings.max_message_size),
    "ping": _duration("min_ping", "max_ping"),
    "drop": _probability,
    "seed": lambda text, _: _count(text, 0, MAX_SEED),
    "compression": _compression,
}

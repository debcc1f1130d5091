"""The kinds of values that a parameter can have: each reads a value strictly, and says which values it takes.

What a kind says is for people (`value`, `words`) and for the console's form (`form`), so that the page refuses what the
server would refuse. The text of a reader's error is the end of a sentence that begins with the parameter.

Pure. Must never know which parameters there are.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from typing import Any, Protocol

from echod.core.quantities import format_duration, format_size, parse_duration, parse_size
from echod.settings import Settings

Limit = int | float | str
"""A limit, or the name of the setting that has it."""

MAX_REASON = 123
"""The most bytes of a Close frame's reason: 125 (RFC 6455 section 5.5) less the two of the code."""

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""The pattern of a token (RFC 9110 section 5.6.2), for Python and for JavaScript."""

TEXT = r"[^\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]*"
"""The pattern of a text without control characters, of which a CR or LF could split an answer."""

PATH = r"/(?![/\\])[\u0021-\u005b\u005d-\u007e]*"
"""The pattern of a path. What begins with `//` names another server, and browsers take a backslash for a slash."""

_AUTH = rf"basic:(?!:){TEXT[:-1]}*:{TEXT}|bearer:[A-Za-z0-9\-._~+/]+=*"
"""RFC 7617 section 2: a user and a password without control characters; RFC 6750 section 2.1: a token."""

FRAMING = (
    *("content-length", "transfer-encoding", "trailer", "content-type", "content-encoding", "content-disposition"),
    "x-content-type-options",
)
"""The fields that say how long a body is and what it is, in lower case. Two that contradict each other would let a
proxy and a client see different answers, and a browser take plain text for a page."""

ORDERS = ("x-accel-", "x-sendfile", "x-lighttpd-", "x-litespeed-", "x-reproxy-", "x-envoy-")
"""The beginnings of fields with which a server gives orders to a proxy before it, in lower case. With
`X-Accel-Redirect` nginx sends a file of its own instead of the answer, one that no client may ask nginx for."""


class Kind(Protocol):
    """A kind of values."""

    def read(self, text: str, settings: Settings) -> Any:
        """Return the value of `text`. Raises `ValueError`."""
        ...

    def value(self, settings: Settings) -> str:
        """Say which values there are, for a table: `a duration, up to 1m`."""
        ...

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the console's form.

        A value is right if it is one of `choices`, or if it matches `pattern` and its measure is from `least` to
        `most`. `unit` says how it is measured: `duration` (in seconds), `size` (in bytes), `number`, `octets` (of its
        UTF-8), or nothing. `words` end a sentence that begins with `NAME must be`.
        """
        ...

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings that limit the value."""
        ...


def _limit(limit: Limit, settings: Settings) -> Any:
    return getattr(settings, limit) if isinstance(limit, str) else limit


def _names(*limits: Limit) -> tuple[str, ...]:
    return tuple(limit for limit in limits if isinstance(limit, str))


class _Uncapped:
    """A kind of values that no setting limits."""

    __slots__ = ()

    def caps(self) -> tuple[str, ...]:
        """Return no names."""
        return ()


def _form(words: str, pattern: str = "", **more: Any) -> dict[str, Any]:
    return {"words": words, "pattern": pattern, **more}


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration, in seconds. `choices` are words that stand in the place of one."""

    least: Limit
    most: Limit
    choices: tuple[str, ...] = ()

    def read(self, text: str, settings: Settings) -> float | str:
        """Return the seconds, or one of the words."""
        if text in self.choices:
            return text
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            words = "".join(f" neither {choice} nor" for choice in self.choices)
            raise ValueError(str(error).replace(" not", words, 1) if words else str(error)) from None
        least, most = _limit(self.least, settings), _limit(self.most, settings)
        if not least <= seconds <= most:
            raise ValueError(f"is not within {format_duration(least)} and {format_duration(most)}")
        return seconds

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        least, most = _limit(self.least, settings), _limit(self.most, settings)
        words = "".join(f"`{choice}`, or " for choice in self.choices)
        low = f", from {format_duration(least)}" if least else ""
        return f"{words}a duration{low}, up to {format_duration(most)}"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        least, most = _limit(self.least, settings), _limit(self.most, settings)
        words = "".join(f"{choice}, or " for choice in self.choices)
        words += f"a duration such as 250ms, 5s or 2m, and from {least:g} to {most:g} seconds"
        pattern = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|)"
        return _form(words, pattern, unit="duration", least=least, most=most, choices=self.choices)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.least, self.most)


@dataclass(frozen=True, slots=True)
class Count:
    """A whole number."""

    least: int
    most: Limit

    def read(self, text: str, settings: Settings) -> int:
        """Return the number."""
        most = _limit(self.most, settings)
        if not re.fullmatch("[0-9]{1,18}", text) or not self.least <= int(text) <= most:
            raise ValueError(f"is not a whole number from {self.least} to {most}")
        return int(text)

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        return f"a number from {self.least} to {_limit(self.most, settings):,}"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        return _form(
            f"a whole number from {self.least} to {most}", "[0-9]{1,18}", unit="number", least=self.least, most=most
        )

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, such as `64KiB`."""

    most: Limit

    def read(self, text: str, settings: Settings) -> int:
        """Return the bytes."""
        size, most = parse_size(text), _limit(self.most, settings)
        if size > most:
            raise ValueError(f"is more than {format_size(most)}")
        return size

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        return f"a size, up to {format_size(_limit(self.most, settings))}"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        words = f"a size such as 1000, 64KiB or 1MiB, and at most {format_size(most)}"
        return _form(words, "([0-9]+)(KiB|MiB|GiB|)", unit="size", least=1, most=most)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)


@dataclass(frozen=True, slots=True)
class Flag(_Uncapped):
    """No value at all."""

    def read(self, text: str, settings: Settings) -> bool:  # noqa: ARG002  # other kinds need it
        """Return True."""
        if text:
            raise ValueError("takes no value")
        return True

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say that there is none."""
        return "none"

    def form(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002  # other kinds need it
        """Return the check of the form."""
        return _form("given without a value", choices=("",), flag=True)


@dataclass(frozen=True, slots=True)
class Choice(_Uncapped):
    """One of a few words."""

    choices: tuple[str, ...]

    def read(self, text: str, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Return the word."""
        if text not in self.choices:
            raise ValueError(f"is none of {', '.join(self.choices)}")
        return self.choices[self.choices.index(text)]  # a member of an enumeration, if these are

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say which values there are."""
        return ", ".join(f"`{choice}`" for choice in self.choices)

    def form(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002  # other kinds need it
        """Return the check of the form."""
        return _form(" or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1]))), choices=self.choices)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A text that matches a regular expression, which means the same to Python and to JavaScript."""

    what: str
    """What such a text is called: `a path such as /other`."""
    pattern: str
    most: Limit
    """The most bytes in UTF-8."""
    least: int = 0

    def read(self, text: str, settings: Settings) -> str:
        """Return the text."""
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"is not {self.what}")
        most = _limit(self.most, settings)
        if not self.least <= len(text.encode()) <= most:
            raise ValueError(f"is not {self.least} to {most} bytes long (in UTF-8)")
        return text

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        return f"{self.what}, of at most {_limit(self.most, settings):,} bytes"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        words = f"{self.what}, and {self.least} to {most} bytes long"
        return _form(words, self.pattern, unit="octets", least=self.least, most=most)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)


@dataclass(frozen=True, slots=True)
class Hex:
    """Bytes in hex."""

    most: Limit

    def read(self, text: str, settings: Settings) -> bytes:
        """Return the bytes."""
        most = _limit(self.most, settings)
        if not re.fullmatch("(?:[0-9A-Fa-f]{2})+", text) or len(text) > 2 * most:
            raise ValueError(f"is not 1 to {most} bytes in hex, such as 8100")
        return bytes.fromhex(text)

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        return f"1 to {_limit(self.most, settings):,} bytes in hex"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        words = f"1 to {most} bytes in hex, such as 8100"
        return _form(words, "(?:[0-9A-Fa-f]{2})+", unit="octets", least=2, most=2 * most)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)


@dataclass(frozen=True, slots=True)
class Probability(_Uncapped):
    """A number from 0 to 1."""

    def read(self, text: str, settings: Settings) -> float:  # noqa: ARG002  # other kinds need it
        """Return the number."""
        if not re.fullmatch(r"[0-9]\.?|[0-9]?\.[0-9]{1,15}", text) or float(text) > 1:
            raise ValueError("is not a number from 0 to 1")
        return float(text)

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say which values there are."""
        return "a probability from 0 to 1"

    def form(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002  # other kinds need it
        """Return the check of the form."""
        return _form("a number from 0 to 1", r"[0-9]\.?|[0-9]?\.[0-9]{1,15}", unit="number", least=0, most=1)


@dataclass(frozen=True, slots=True)
class CloseCode(_Uncapped):
    """A close code."""

    def read(self, text: str, settings: Settings) -> int:  # noqa: ARG002  # other kinds need it
        """Return the code."""
        # RFC 6455 section 7.4 and IANA's registry: 1004 and 1015 are never sent, 1016 to 2999 are not assigned.
        code = int(text) if re.fullmatch("[0-9]{4}", text) else 0
        if not (1000 <= code <= 1014 and code != 1004) and not 3000 <= code <= 4999:
            raise ValueError("is not a close code: 1000 to 1003, 1005 to 1014, or 3000 to 4999")
        return code

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say which values there are."""
        return "a close code: 1000 to 1003, 1005 to 1014, 3000 to 4999"

    def form(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002  # other kinds need it
        """Return the check of the form."""
        return _form("a close code: 1000 to 1003, 1005 to 1014, or 3000 to 4999", "100[0-35-9]|101[0-4]|[34][0-9]{3}")


@dataclass(frozen=True, slots=True)
class Reason(_Uncapped):
    """The reason of a Close frame."""

    def read(self, text: str, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Return the reason."""
        if not 1 <= len(text.encode()) <= MAX_REASON:
            raise ValueError(f"is not 1 to {MAX_REASON} bytes long (in UTF-8)")
        return text

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say which values there are."""
        return f"text, of at most {MAX_REASON} bytes"

    def form(self, settings: Settings) -> dict[str, Any]:  # noqa: ARG002  # other kinds need it
        """Return the check of the form."""
        return _form(f"1 to {MAX_REASON} bytes long", r"[^]*", unit="octets", least=1, most=MAX_REASON)


@dataclass(frozen=True, slots=True)
class Field:
    """A header field: `NAME:VALUE`."""

    most: Limit
    """The most bytes in UTF-8."""

    def read(self, text: str, settings: Settings) -> tuple[str, str]:
        """Return the name and the value."""
        most = _limit(self.most, settings)
        name, _, value = text.partition(":")
        if not re.fullmatch(f"{TOKEN}:{TEXT}", text) or len(text.encode()) > most:
            raise ValueError(f"is not NAME:VALUE without control characters, of at most {most} bytes")
        if name.lower() in FRAMING:
            raise ValueError("can't be a field that says how long the body is or what it is")
        if name.lower().startswith(ORDERS):
            raise ValueError("can't be a field that tells a proxy what to do")
        return name, value.strip(" ")

    def value(self, settings: Settings) -> str:
        """Say which values there are."""
        return (
            f"`NAME:VALUE`, of at most {_limit(self.most, settings):,} bytes, up to {settings.max_fault_headers} times"
        )

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        never = "|".join(
            "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in name)
            for name in (*(f"{name}:" for name in FRAMING), *ORDERS)
        )
        words = (
            f"NAME:VALUE without control characters, of at most {most} bytes, and no field that describes the body or "
            "tells a proxy what to do"
        )
        return _form(words, f"(?!{never}){TOKEN}:{TEXT}", unit="octets", least=1, most=most)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)


@dataclass(frozen=True, slots=True)
class Auth:
    """Credentials: `basic:USER:PASSWORD` or `bearer:TOKEN`."""

    most: Limit
    """The most bytes in UTF-8."""

    def read(self, text: str, settings: Settings) -> tuple[str, str]:
        """Return the scheme, and the credentials as they stand in a request."""
        most = _limit(self.most, settings)
        if not re.fullmatch(_AUTH, text) or len(text.encode()) > most:
            raise ValueError(f"is not basic:USER:PASSWORD or bearer:TOKEN, of at most {most} bytes")
        scheme, _, rest = text.partition(":")
        # RFC 7617 section 2; echod expects the user and the password in UTF-8.
        return (scheme, b64encode(rest.encode()).decode()) if scheme == "basic" else (scheme, rest)

    def value(self, settings: Settings) -> str:  # noqa: ARG002  # other kinds need it
        """Say which values there are."""
        return "`basic:USER:PASSWORD` or `bearer:TOKEN`"

    def form(self, settings: Settings) -> dict[str, Any]:
        """Return the check of the form."""
        most = _limit(self.most, settings)
        return _form("basic:USER:PASSWORD or bearer:TOKEN", _AUTH, unit="octets", least=1, most=most)

    def caps(self) -> tuple[str, ...]:
        """Return the names of the settings."""
        return _names(self.most)

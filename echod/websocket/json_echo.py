"""What `/json` does with a message: it checks that the message is JSON (RFC 8259) and removes the white space between
tokens.

A pure function. msgspec does the work in C without building a value, so no token is converted: numbers of any size and
precision, escapes, the order of members and duplicate names come back as they were sent. Must never know connections:
the caller turns the errors into close codes.

Decided:
- `NaN`, `Infinity` and `-Infinity` are not JSON (RFC 8259 section 6).
- The grammar allows an escaped lone surrogate (`"\\ud800"`, section 8.2), so it comes back as the same escape, although
  msgspec refuses it: see `_HIDDEN`.
- The grammar allows duplicate names (section 4), so they come back as they are.
- Nesting deeper than Python allows C code to go is refused; section 9 lets a parser set a limit. Up to Python 3.11 this
  limit is Python's recursion limit. From Python 3.14 on it is what a stack of 8 MiB holds, more than 100,000 levels.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

_HIDDEN = ((rb"\\", b"\xfe\xfe"), (rb"\ud", b"\xff\\u0"), (rb"\uD", b"\xfd\\u0"))
"""Pairs of an escape and its stand-in while msgspec checks the text, so that msgspec accepts any surrogate. A stand-in
has a byte that never occurs in UTF-8, which msgspec ignores, and for a surrogate also an escape whose four digits
msgspec checks. Escaped backslashes are replaced first, because what follows one of them is no escape."""


class NotJSONError(ValueError):
    """The message is not a JSON text. The text of the error fits into the reason of a Close frame."""


class TooManyValuesError(ValueError):
    """The text has more values than may be parsed at once."""


def echo(payload: bytes, max_values: int) -> Generator[bytes, None, bytes]:
    """Return the JSON text `payload` without insignificant white space, in steps (`turns.Tasks`).

    No step has anything to send. The longest takes some 30 ms for 16 MiB.

    `payload` must be valid UTF-8, as a text message is. Raises `NotJSONError`. Raises `TooManyValuesError` if there may
    be more than `max_values` values or escapes of surrogates: commas and brackets are counted, wherever they stand.
    """
    _check_count(payload, (b",", b"[", b"{"), max_values)
    yield b""
    try:
        return _strip(payload)
    except msgspec.DecodeError as error:
        if rb"\ud" not in payload and rb"\uD" not in payload:
            raise _not_json(error) from None
    yield b""
    _check_count(payload, (rb"\ud", rb"\uD"), max_values)
    for shown, hidden in _HIDDEN:
        yield b""
        payload = payload.replace(shown, hidden)
    yield b""
    try:
        payload = _strip(payload)
    except msgspec.DecodeError as error:
        raise _not_json(error) from None
    for shown, hidden in reversed(_HIDDEN):
        yield b""
        payload = payload.replace(hidden, shown)
    return payload


def _check_count(payload: bytes, marks: tuple[bytes, ...], most: int) -> None:
    if sum(map(payload.count, marks)) > most:
        raise TooManyValuesError(f"more than {most} JSON values")


def _strip(payload: bytes) -> bytes:
    try:
        return msgspec.json.format(payload, indent=-1)
    except RecursionError:
        raise NotJSONError("JSON nested too deeply") from None


def _not_json(error: msgspec.DecodeError) -> NotJSONError:
    return NotJSONError(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}")

"""What `/json` does with a message: prove that it is JSON (RFC 8259) and take out the white space between its tokens.

A pure function. msgspec does the work in C without building a value, so the tokens are never converted: a number of any
size or precision, any escape, the order of members and duplicate names come back as they were sent. Knows nothing of
connections; the caller turns the errors into close codes.

Decided:
- `NaN`, `Infinity` and `-Infinity` are not JSON (RFC 8259 section 6).
- An escaped lone surrogate (`"\\ud800"`) is within the grammar (section 8.2) and passes as the escape it is, though
  msgspec refuses it: see `_HIDDEN`.
- Duplicate names are within the grammar (section 4) and pass as they are.
- Nesting deeper than Python lets C code go is refused; section 9 lets a parser set a limit. That is Python's recursion
  limit up to Python 3.11, and from Python 3.14 on what a stack of 8 MiB holds, more than 100,000 levels.
"""

from __future__ import annotations

from collections.abc import Generator

import msgspec

_HIDDEN = ((rb"\\", b"\xfe\xfe"), (rb"\ud", b"\xff\\u0"), (rb"\uD", b"\xfd\\u0"))
"""What stands in the text while msgspec proves it, so that it takes any surrogate: an octet that UTF-8 never has, which
msgspec does not look at, and an escape whose four digits it checks. Escaped backslashes are hidden first: what is
behind one of them is no escape."""


class NotJSONError(ValueError):
    """The message is not a JSON text; the text of the error fits a Close frame's reason."""


class TooManyValuesError(ValueError):
    """The text holds more values than may be parsed at once."""


def echo(payload: bytes, max_values: int) -> Generator[bytes, None, bytes]:
    """Return the JSON text `payload` without insignificant white space, in steps (`turns.Tasks`).

    The longest step takes some 30 ms for 16 MiB, and gives nothing to be sent, as all of them.

    `payload` must be valid UTF-8, as a text message is. Raises `NotJSONError`, or `TooManyValuesError` when there may
    be more than `max_values` values, or escapes of surrogates: commas and brackets are counted, wherever they stand.
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

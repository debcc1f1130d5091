"""What `/json` does with a message: prove that it is JSON (RFC 8259) and take out the white space between its tokens.

A pure function. The tokens themselves are never converted, so a number of any size or precision, any escape, the order of
members and duplicate names come back as they were sent. Knows nothing of connections; the caller turns the errors into
close codes.

Decided:
- `NaN`, `Infinity` and `-Infinity` are not JSON (RFC 8259 section 6): refused, though Python's parser would take them.
- An escaped lone surrogate (`"\\ud800"`) is within the grammar (section 8.2) and passes as the escape it is.
- Duplicate names are within the grammar (section 4) and pass as they are.
- Nesting deeper than Python's recursion limit (about 1,000) is refused; section 9 lets a parser set a limit.
"""

from __future__ import annotations

import json
import re
from typing import Never


class NotJSONError(ValueError):
    """The message is not a JSON text; the text of the error fits a Close frame's reason."""


class TooManyValuesError(ValueError):
    """The text holds more values than may be parsed at once."""


def _refuse_constant(name: str) -> Never:
    raise NotJSONError(f"{name} is not JSON")


def _no_value(_: object) -> None:
    """Keep nothing of a number or an object: what is built is only thrown away."""


_DECODER = json.JSONDecoder(
    parse_int=_no_value,
    parse_float=_no_value,
    parse_constant=_refuse_constant,
    object_pairs_hook=_no_value,
)

# A whole string, kept, or white space, dropped. Possessive, so that a long string of escapes keeps no way back in memory.
_STRING_OR_SPACE = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\n\r]++')


def echo(payload: bytes, max_values: int) -> bytes:
    """Return the JSON text `payload` without insignificant white space.

    `payload` must be valid UTF-8, as a text message is. Raises `NotJSONError`, or `TooManyValuesError` when there may be more
    than `max_values` values: commas and brackets are counted, wherever they stand.
    """
    if payload.count(b",") + payload.count(b"[") + payload.count(b"{") > max_values:
        raise TooManyValuesError(f"more than {max_values} JSON values")
    text = payload.decode()
    try:
        _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJSONError(f"not JSON: {error.msg} at character {error.pos}") from None
    except RecursionError:
        raise NotJSONError("JSON nested too deeply") from None
    return _STRING_OR_SPACE.sub(r"\1", text).encode()

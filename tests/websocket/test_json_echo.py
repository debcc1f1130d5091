"""`/json`: JSON comes back token for token; anything else raises one of two errors."""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.websocket import json_echo
from echod.websocket.json_echo import NotJSONError, TooManyValuesError
from tests.steps import finish

MANY = 1_000_000
MIB = 2**20

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)

_PIECES = (
    *'[]{},:"',
    *" \t\n\r\v\f\0\x1f\x7f\xa0\u2028\ufeff",
    *"0123456789+-.eEaxéà😀",
    *(
        "true",
        "false",
        "null",
        "nan",
        "NaN",
        "Infinity",
        "-Infinity",
        '"a"',
        '""',
        '"a":',
        "[1]",
        "{}",
        "//",
        "/*",
        "'a'",
    ),
    *(
        "\\",
        "\\\\",
        '\\"',
        "\\/",
        "\\b",
        "\\n",
        "\\x",
        "\\u",
        "\\u0",
        "\\u00e9",
        "\\u00E9",
        "\\u12g4",
        "u0800",
        "0800",
        "\\U",
    ),
    *("\\ud", "\\uD", "\\ud8", "\\ud800", "\\uDBFF", "\\uDC00", "\\udfff", "\\ud83d\\ude00", "\\uD83D\\uDE00"),
)
_mixtures = st.lists(st.sampled_from(_PIECES), max_size=12).map("".join)
_strings = st.lists(st.sampled_from([piece for piece in _PIECES if '"' not in piece]), max_size=12).map(
    lambda parts: f'"{"".join(parts)}"'
)


def echo(payload: bytes, max_values: int = MANY) -> bytes:
    return finish(json_echo.echo(payload, max_values))


def refuse(constant: str) -> NoReturn:
    raise ValueError(constant)


# Python's own decoder, which converts no number and takes no constant that is not JSON.
_ORACLE = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=refuse)

_TOKEN_OR_SPACE = re.compile(r'("(?:[^"\\]|\\.)*")|[ \t\n\r]+', re.DOTALL)


def judge(text: str) -> str | None:
    """Return what `/json` must answer; None if the text is not JSON."""
    try:
        _ORACLE.decode(text)
    except ValueError:
        return None
    return _TOKEN_OR_SPACE.sub(r"\1", text)


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_white_space_goes_and_the_value_stays(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    compact = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    assert echo(text.encode()).decode() == compact


@given(st.one_of(_mixtures, _strings, st.lists(_strings, max_size=3).map(lambda parts: f"[{' , '.join(parts)}]")))
def test_what_python_takes_is_echoed_and_nothing_else(text: str) -> None:
    expected = judge(text)
    try:
        answer = echo(text.encode()).decode()
    except NotJSONError:
        assert expected is None
    else:
        assert answer == expected


@given(json_values, st.data())
def test_a_text_with_an_octet_more_or_less_is_judged_as_python_does(value: object, data: Any) -> None:
    text = json.dumps(value, indent=1)
    start = data.draw(st.integers(0, len(text)))
    changed = text[:start] + data.draw(st.sampled_from(["", *_PIECES])) + text[start + data.draw(st.integers(0, 2)) :]
    expected = judge(changed)
    try:
        answer = echo(changed.encode()).decode()
    except NotJSONError:
        assert expected is None
    else:
        assert answer == expected


@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000,
        "-0",
        "1.00000000000000000000000000001e+400",
        '"\\ud800"',
        '"\\uDFFF\\ud800\\uD83D\\ude00\\\\ud800\\\\\\ud800\\\\uD800"',
        r'"\" \\ \/ \b \f \n \r \t \u0000 \uD83D\uDE00"',
        '"a  b\u2028"',
        '{"a":1,"a":2}',
        "[" * 500 + "]" * 500,
        "null",
    ],
    ids=lambda text: text[:20],
)
def test_tokens_come_back_as_they_were(text: str) -> None:
    assert echo(text.encode()).decode() == text == judge(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "truncated"),
        ("nope", "invalid character .byte 1."),
        ("1 2", "trailing characters .byte 3."),
        ("NaN", "invalid character .byte 0."),
        ("[1, -Infinity]", "invalid character"),
        ("{'a': 1}", "expected '\"'"),
        ('"a\tb"', "invalid character .byte 2."),
        ("\ufeff1", "invalid character .byte 0."),
        ('"\\ud80"', "unicode escape"),
        ('"\\ud800\\x"', "invalid escaped character"),
        ("[" * 500_000, "nested too deeply"),
        ('{"a":' * 500_000 + "1" + "}" * 500_000, "nested too deeply"),
        ('["\\ud800",' + "[" * 500_000, "nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_json_raises(text: str, why: str) -> None:
    with pytest.raises(NotJSONError, match=why) as error:
        echo(text.encode())
    assert len(str(error.value).encode()) <= 123, "it must fit a Close frame (RFC 6455 section 5.5)"


def test_values_are_counted_before_they_are_parsed() -> None:
    assert echo(b"[[],{}]", 4) == b"[[],{}]"
    with pytest.raises(TooManyValuesError, match="more than 3"):
        echo(b"[[],{}]", 3)
    assert echo(rb'"\ud800\uD800"', 2) == rb'"\ud800\uD800"'
    with pytest.raises(TooManyValuesError, match="more than 1"):
        echo(rb'"\ud800\uD800"', 1)


def padded(unit: bytes, count: int) -> bytes:
    """Return an array of 16 MiB: `count` units, and a string that fills the rest."""
    units = unit * count
    return b"[" + units + b'"' + b"a" * (16 * MIB - len(units) - 4) + b'"]'


@pytest.mark.parametrize(
    "text",
    [
        b"{" + b'" a" : 1 ,' * 999_000 + b'"":1}',
        b"{" + b'" a" : 1 ,' * 999_000,
        padded(b"1,", 999_000),
        padded(b'"" ,\n', 999_000),
        padded(b"0.1234567890,", 999_000),
        padded(b"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]],", 40_000),
        b"[" + b" " * (16 * MIB - 2) + b"]",
        b'"' + rb"\u0041" * (16 * MIB // 6 - 1) + b'"',
        b'"' + rb"\\" * (8 * MIB - 1) + b'"',
        b"1" * 16 * MIB,
    ],
    ids=[
        "members",
        "no end",
        "numbers",
        "white space",
        "fractions",
        "nested",
        "nothing but space",
        "escapes",
        "backslashes",
        "one number",
    ],
)
def test_16_mib_take_little_of_the_processor(text: bytes) -> None:
    # 10 to 45 ms on an idle machine, in the least of some runs. A regular expression and a decoder took up to 3 s.
    assert min(_cost(text) for _ in range(3)) < 0.2


def _cost(text: bytes) -> float:
    start = time.process_time()
    with suppress(NotJSONError):
        echo(text)
    return time.process_time() - start

"""`/json`: what is JSON comes back token for token; what is not raises one of two errors."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echod.json_echo import NotJSONError, TooManyValuesError, echo

MANY = 1_000_000

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_white_space_goes_and_the_value_stays(value: object, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    compact = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    assert echo(text.encode(errors="surrogatepass") if not ascii_only else text.encode(), MANY).decode() == compact


@pytest.mark.parametrize(
    "text",
    [
        "1" * 100_000,
        "-0",
        "1.00000000000000000000000000001e+400",
        '"\\ud800"',
        r'"\" \\ \/ \b \f \n \r \t \u0000 \uD83D\uDE00"',
        '"a  b\u2028"',
        '{"a":1,"a":2}',
        "[" * 500 + "]" * 500,
        "null",
    ],
    ids=lambda text: text[:20],
)
def test_tokens_come_back_as_they_were(text: str) -> None:
    assert echo(text.encode(), MANY).decode() == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value at character 0"),
        ("nope", "Expecting value"),
        ("1 2", "Extra data at character 2"),
        ("NaN", "NaN is not JSON"),
        ("[1, -Infinity]", "-Infinity is not JSON"),
        ("{'a': 1}", "property name"),
        ('"a\tb"', "Invalid control character"),
        ("\ufeff1", "Expecting value"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "nested too deeply"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_json_raises(text: str, why: str) -> None:
    with pytest.raises(NotJSONError, match=why) as error:
        echo(text.encode(), MANY)
    assert len(str(error.value).encode()) <= 123, "it must fit a Close frame (RFC 6455 section 5.5)"


def test_values_are_counted_before_they_are_built() -> None:
    assert echo(b"[[],{}]", 4) == b"[[],{}]"
    with pytest.raises(TooManyValuesError, match="more than 3"):
        echo(b"[[],{}]", 3)

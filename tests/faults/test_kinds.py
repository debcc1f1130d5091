"""Each kind of values reads what it should, says which values it takes, and gives the console's form the same check."""

from __future__ import annotations

import re
from typing import Any

import pytest

from echod.core.quantities import GIB
from echod.faults import kinds
from echod.settings import Settings

SETTINGS = Settings()

READ: list[tuple[kinds.Kind, str, Any]] = [
    (kinds.Duration(0.0, 60.0), "250ms", 0.25),
    (kinds.Duration(0.0, "max_reply_delay", ("no",)), "no", "no"),
    (kinds.Count(1, "max_after"), "7", 7),
    (kinds.Size("max_bomb"), "1GiB", GIB),
    (kinds.Flag(), "", True),
    (kinds.Choice(("a", "b")), "b", "b"),
    (kinds.Pattern("a path", kinds.PATH, "max_fault_text"), "/a?b=c", "/a?b=c"),
    (kinds.Pattern("a text", kinds.TEXT, 10), "grün", "grün"),
    (kinds.Hex("max_raw"), "8aFF", b"\x8a\xff"),
    (kinds.Probability(), ".5", 0.5),
    (kinds.CloseCode(), "4999", 4999),
    (kinds.Reason(), "bye\n", "bye\n"),
    (kinds.Field("max_fault_text"), "X-A: b:c ", ("X-A", "b:c")),
    (kinds.Field("max_fault_text"), "X-A:", ("X-A", "")),
    (kinds.Auth("max_fault_text"), "basic:tea:grün:", ("basic", "dGVhOmdyw7xuOg==")),
    (kinds.Auth("max_fault_text"), "bearer:a.b-c~d_e+f/0==", ("bearer", "a.b-c~d_e+f/0==")),
]

REFUSED: list[tuple[kinds.Kind, str, str]] = [
    (kinds.Duration(0.0, 60.0), "soon", "is not a duration, such as 250ms, 5s or 2m"),
    (kinds.Duration(0.0, 60.0, ("no",)), "never", "is neither no nor a duration, such as 250ms, 5s or 2m"),
    (kinds.Duration(0.1, 60.0), "61s", "is not within 100ms and 1m"),
    (kinds.Count(1, 5), "6", "is not a whole number from 1 to 5"),
    (kinds.Size(1000), "1KiB", "is more than 1000"),
    (kinds.Size(1000), "1k", "is not a size, such as 1000, 64KiB, 16MiB or 1GiB"),
    (kinds.Flag(), "1", "takes no value"),
    (kinds.Choice(("a", "b")), "c", "is none of a, b"),
    (kinds.Pattern("a path", kinds.PATH, 10), "//a", "is not a path"),
    (kinds.Pattern("a path", kinds.PATH, 10), "/\\a", "is not a path"),
    (kinds.Pattern("a path", kinds.PATH, 10), "/a\r\nb", "is not a path"),
    (kinds.Pattern("a path", kinds.PATH, 10), "/ä", "is not a path"),
    (kinds.Pattern("a text", kinds.TEXT, 3, least=1), "", "is not 1 to 3 bytes long (in UTF-8)"),
    (kinds.Pattern("a text", kinds.TEXT, 3), "grün", "is not 0 to 3 bytes long (in UTF-8)"),
    *[(kinds.Pattern("a text", kinds.TEXT, 9), f"a{octet}b", "is not a text") for octet in "\r\n\0\x7f\x85\u2028"],
    (kinds.Hex(2), "", "is not 1 to 2 bytes in hex, such as 8100"),
    (kinds.Hex(2), "810000", "is not 1 to 2 bytes in hex, such as 8100"),
    (kinds.Hex(2), "8", "is not 1 to 2 bytes in hex, such as 8100"),
    (kinds.Probability(), "2", "is not a number from 0 to 1"),
    (kinds.CloseCode(), "1004", "is not a close code: 1000 to 1003, 1005 to 1014, or 3000 to 4999"),
    (kinds.Reason(), "", "is not 1 to 123 bytes long (in UTF-8)"),
    *[
        (kinds.Field(9), text, "is not NAME:VALUE without control characters, of at most 9 bytes")
        for text in ("a", ":b", "a b:c", "a:b\rc", "a:b\nc", "a:b\x85", "X-A: grün")
    ],
    *[
        (kinds.Field(99), f"{name}:x", "can't be a field that says how long the body is or what it is")
        for name in ("Content-Length", "transfer-encoding", "CONTENT-TYPE", "X-Content-Type-Options")
    ],
    *[
        (kinds.Field(99), f"{name}:x", "can't be a field that tells a proxy what to do")
        for name in ("X-Accel-Redirect", "x-sendfile", "X-LiteSpeed-Location", "X-Envoy-Overloaded")
    ],
    *[
        (kinds.Auth(20), text, "is not basic:USER:PASSWORD or bearer:TOKEN, of at most 20 bytes")
        for text in ("basic", "basic:", "basic:a", "basic::b", "basic:a\n:b", "bearer:", "bearer:a b", "digest:a")
    ],
    (kinds.Auth(9), "bearer:abc", "is not basic:USER:PASSWORD or bearer:TOKEN, of at most 9 bytes"),
]


@pytest.mark.parametrize(("kind", "text", "value"), READ)
def test_what_is_read(kind: kinds.Kind, text: str, value: Any) -> None:
    assert kind.read(text, SETTINGS) == value
    assert is_taken(kind, text)


@pytest.mark.parametrize(("kind", "text", "error"), REFUSED)
def test_what_is_refused(kind: kinds.Kind, text: str, error: str) -> None:
    with pytest.raises(ValueError, match=re.escape(error)):
        kind.read(text, SETTINGS)
    assert not is_taken(kind, text)


def is_taken(kind: kinds.Kind, text: str) -> bool:
    """Tell whether the console's form takes a value. The console has the same function in JavaScript."""
    form = kind.form(SETTINGS)
    if text in form.get("choices", ()):
        return True
    # JavaScript's `[^]` is any character.
    if not form["pattern"] or not re.fullmatch(form["pattern"].replace("[^]", r"[\s\S]"), text):
        return False
    match form.get("unit"):
        case None:
            return True
        case "octets":
            amount: float = len(text.encode())
        case "duration":
            amount = kinds.Duration(0, 1e9).read(text, SETTINGS)  # type: ignore[assignment]
        case "size":
            amount = kinds.Size(2**60).read(text, SETTINGS)
        case _:
            amount = float(text)
    return bool(form["least"] <= amount <= form["most"])


@pytest.mark.parametrize("kind", [kind for kind, _, _ in READ])
def test_every_kind_says_which_values_it_takes(kind: kinds.Kind) -> None:
    assert kind.value(SETTINGS)
    assert kind.form(SETTINGS)["words"]
    assert all(hasattr(SETTINGS, cap) for cap in kind.caps())


def test_a_limit_is_a_number_or_a_setting() -> None:
    assert kinds.Count(1, 5).value(SETTINGS) == "a number from 1 to 5"
    assert kinds.Count(1, "max_after").value(Settings(max_after=6)) == "a number from 1 to 6"
    assert kinds.Duration("min_ping", "max_ping").value(SETTINGS) == "a duration, from 100ms, up to 60m"
    assert kinds.Duration(0.0, 1.0, ("no",)).value(SETTINGS) == "`no`, or a duration, up to 1s"

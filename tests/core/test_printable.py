"""Text from a peer, as a person may read it."""

from __future__ import annotations

import pytest

from echod.core.printable import describe_message, escape


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain text, naïve 🙂", "plain text, naïve 🙂"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("\\n", r"\\n"),
        ("\u202eevil\u2028\x85", r"\u202eevil\u2028\x85"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_a_terminal_would_act_on_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    ("payload", "is_binary", "line"),
    [
        (b"hello", False, "hello"),
        (b"", False, ""),
        ("é".encode() * 10, False, "é" * 10),
        ("é".encode() * 11, False, "é" * 10 + "… (22 octets)"),
        (b"x" * 1_000_000, False, "x" * 10 + "… (1000000 octets)"),
        (b"\x00\xff'", True, r"\x00\xff'"),
        (b"\x00" * 11, True, r"\x00" * 10 + "… (11 octets)"),
    ],
)
def test_messages_are_described_in_a_bounded_way(payload: bytes, is_binary: bool, line: str) -> None:
    assert describe_message(payload, is_binary, 10) == line

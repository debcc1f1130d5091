"""Text from a peer as a person may read it: on one line, escaped, and cut.

Pure, and free of Twisted, so that a command that prints one line starts at once.
"""

from __future__ import annotations


def escape(text: str) -> str:
    r"""Return `text` on one line with nothing in it that a terminal would act on.

    Characters that are not printable (controls, line and paragraph separators, bidirectional overrides, surrogates) and
    the backslash become Python's escapes, so that two different texts never look the same.
    """
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(
        char if char.isprintable() and char != "\\" else char.encode("unicode_escape").decode() for char in text
    )


def describe_message(payload: bytes, is_binary: bool, cut: int) -> str:
    """Return a message for a line of text: escaped, and at most `cut` characters of a text or `cut` bytes of a binary
    message."""
    # A character takes at most 4 bytes, so only as much of a long message is decoded as may be shown. If that piece
    # ends in the middle of a character, the half is dropped with the rest.
    shown = repr(payload[:cut])[2:-1] if is_binary else escape(payload[: 4 * cut].decode(errors="ignore")[:cut])
    text_fits = not is_binary and len(payload) <= 4 * cut and len(payload.decode(errors="ignore")) <= cut
    return shown if len(payload) <= cut or text_fits else f"{shown}… ({len(payload)} octets)"

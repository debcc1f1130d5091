"""Malformed heads of answers: each is a function from a good head to a bad one.

Pure. A head is the status line and the fields, each with its CRLF, and the blank line. Over HTTP/2 a malformed head has
fields that no head may have, or too many.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_BLANK = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Malformed:
    """A way in which a head is malformed."""

    make: Callable[[bytes, int], bytes]
    """Returns the bad head, given a good one and the most bytes that it may have."""
    does: str
    client: str
    """What a conforming client does, as a sentence."""
    rfc: str
    on_stream: Callable[[int], Sequence[tuple[bytes, bytes]]] | None = None
    """Returns the fields that make a head over HTTP/2 malformed, given the most bytes that they may take; None: HTTP/2
    has nothing of the kind."""


_VALUE: Final = 89 * b"x"
"""The value of a field whose line takes 100 bytes, and which takes 128 over HTTP/2."""


def _bare_lf(head: bytes, _: int) -> bytes:
    return head.replace(b"\r\n", b"\n")


def _folded(head: bytes, _: int) -> bytes:
    return head.replace(b": ", b":\r\n ", 1)


def _nul(head: bytes, _: int) -> bytes:
    return _with(head, b"X-Echod: a\0b")


def _no_blank_line(head: bytes, _: int) -> bytes:
    return head.removesuffix(b"\r\n")


def _http_1_0(head: bytes, _: int) -> bytes:
    return head.replace(b"HTTP/1.1", b"HTTP/1.0", 1)


def _status_200(head: bytes, _: int) -> bytes:
    return b"HTTP/1.1 200 OK" + head[head.index(b"\r\n") :]


def _reason_missing(head: bytes, _: int) -> bytes:
    return head[: len("HTTP/1.1 101")] + head[head.index(b"\r\n") :]


def _non_ascii(head: bytes, _: int) -> bytes:
    return _with(head, b"X-Echod: gr\xfc\xdfe")


def _endless(head: bytes, most: int) -> bytes:
    start = head.removesuffix(b"\r\n")
    line = b"X-Echod: " + _VALUE + b"\r\n"
    return (start + line * (most // len(line) + 1))[:most]


def _many_fields(most: int) -> Sequence[tuple[bytes, bytes]]:
    # RFC 9113 section 6.5.2 counts 32 bytes for each field beside its name and its value.
    return [(b"x-echod", _VALUE)] * (most // 128)


def _junk_before(head: bytes, _: int) -> bytes:
    return b"junk\r\n" + head


def _with(head: bytes, line: bytes) -> bytes:
    return head.removesuffix(b"\r\n") + line + b"\r\n\r\n"


HEADS: dict[str, Malformed] = {
    "bare-lf": Malformed(
        _bare_lf,
        "Each line ends with LF alone.",
        "Opens, or fails the connection: a recipient may take an LF for the end of a line.",
        "RFC 9112 section 2.2",
    ),
    "folded": Malformed(
        _folded,
        "The value of the first field stands on a second line, which begins with a space.",
        "Reads a space in place of the line's end, and opens.",
        "RFC 9112 section 5.2",
    ),
    "nul": Malformed(
        _nul,
        "A field that nobody knows has a NUL in its value.",
        "Fails the connection, or reads a space in place of the NUL and opens.",
        "RFC 9110 section 5.5, RFC 9113 section 8.2.1",
        lambda _: [(b"x-echod", b"a\0b")],
    ),
    "no-blank-line": Malformed(
        _no_blank_line,
        "The blank line is missing, so the head does not end.",
        "Waits for the end of the head, for as long as its own time limit allows.",
        "RFC 9112 section 2.1",
    ),
    "http-1.0": Malformed(
        _http_1_0,
        "The version is HTTP/1.0, which has no upgrade.",
        "Fails the connection.",
        "RFC 9110 section 7.8",
    ),
    "status-200": Malformed(
        _status_200,
        "The status is 200, and all fields are those of a 101.",
        "Fails the connection: only 101 opens it.",
        "RFC 6455 section 4.1",
    ),
    "reason-missing": Malformed(
        _reason_missing,
        "The status line ends after the status, without the space before the reason phrase.",
        "Opens, or fails the connection: a recipient may be lenient with a status line.",
        "RFC 9112 section 4",
    ),
    "non-ascii": Malformed(
        _non_ascii,
        "A field that nobody knows has bytes above ASCII in its value, which are not UTF-8.",
        "Opens: such bytes are opaque.",
        "RFC 9110 section 5.5",
        lambda _: [(b"x-echod", b"gr\xfc\xdfe")],
    ),
    "endless": Malformed(
        _endless,
        "The head has fields until it is 64KiB long, and does not end. Over HTTP/2 it ends.",
        "Fails the connection at its own limit on a head, or waits for the end of the head.",
        "RFC 9110 section 5.4, RFC 9113 section 10.5.1",
        _many_fields,
    ),
    "junk-before": Malformed(
        _junk_before,
        "A line of junk comes before the status line.",
        "Fails the connection.",
        "RFC 9112 section 2.1",
    ),
}
"""All malformed heads by their names."""

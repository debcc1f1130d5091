"""A request head taken apart (RFC 9112), and the two kinds of request that can come of it.

Pure: bytes in, values out. Knows the syntax of HTTP/1.1. Must never know what an opening handshake needs: that is
`upgrade.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from echod.http.refusals import TOO_MANY_LINES, Refusal, bad_request

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""The pattern of a token (RFC 9110 section 5.6.2): names of header fields and of subprotocols."""

Fields = dict[bytes, list[bytes]]
"""The values of each header field, by its name in lower case."""

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x22\x24-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")

# A line that begins with white space (a folded line) or has some before its colon matches nothing here.
_HEADER_LINE = re.compile(rb"^(" + TOKEN + rb"):([^\r\n]*)\r$", re.MULTILINE)


class Head(NamedTuple):
    """A request head."""

    method: bytes
    target: bytes
    version: bytes
    """Without its name: `1.1`."""
    fields: Fields
    lines: Sequence[tuple[bytes, bytes]]
    """The header lines as they came: the name, and everything after the colon."""


class Request(NamedTuple):
    """An opening handshake that may be answered with 101. It is a tuple because a frozen dataclass takes three times as
    long to make."""

    path: str
    query: str
    key: str
    subprotocols: tuple[str, ...]
    extensions: str
    """All extensions offered, as one header value."""
    fields: Fields
    lines: Sequence[tuple[bytes, bytes]]
    """As in `Head`."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A GET or HEAD that does not ask for a WebSocket."""

    method: bytes
    path: str
    fields: Fields


def parse(head: bytes, max_lines: int) -> Head | Refusal:
    """Take a complete request head apart, including its blank line. The caller has checked its bytes."""
    line_count = head.count(b"\r\n") - 2
    if line_count > max_lines:
        return TOO_MANY_LINES
    match = _REQUEST_LINE.match(head)
    if match is None:
        return bad_request("the request line")
    lines = _HEADER_LINE.findall(head, match.end())
    if len(lines) != line_count:
        return bad_request("a header line that is not `name: value`")
    fields: Fields = {name.lower(): [value.strip(b" \t")] for name, value in lines}
    if len(fields) < line_count:  # rare: a field comes twice
        fields = {name: [] for name in fields}
        for name, value in lines:
            fields[name.lower()].append(value.strip(b" \t"))
    method, target, version = match.groups()
    return Head(method, target, version, fields, lines)


def members(fields: Fields, name: bytes) -> list[bytes]:
    """Return the members of a header field that is a list, from all its lines. Empty members are ignored (RFC 9110
    section 5.6.1)."""
    if name not in fields:
        return []
    return [item for value in fields[name] for part in value.split(b",") if (item := part.strip(b" \t"))]


def has_member(fields: Fields, name: bytes, token: bytes) -> bool:
    """Tell whether a header field that is a list contains `token`, whatever the case; mostly it is the only member."""
    values = fields.get(name, [])
    return (len(values) == 1 and values[0].lower() == token) or token in (
        item.lower() for item in members(fields, name)
    )

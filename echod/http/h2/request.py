"""The header fields of a request over HTTP/2 become a `Head`, as those of HTTP/1.1 do, or prove to be malformed.

h2 could check the fields, too, but a malformed request would end the whole connection with it, and so the streams of
others whom a proxy has put on the same connection. RFC 9113 section 8.1.1 asks for the end of the one stream.

Pure: values in, values out. Knows RFC 9113 section 8 and RFC 8441 section 4. Must never know what a request gets:
that is `upgrade.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from echod.http.request import Fields, Head

FIELD_OVERHEAD = 32
"""Bytes that a field counts in addition to its name and its value (SETTINGS_MAX_HEADER_LIST_SIZE, RFC 9113 section
6.5.2)."""

_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
"""A field's name: a token without upper-case letters (section 8.2.1)."""

_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
"""A field's value: no controls, and no white space at either end (section 8.2.1)."""

_TARGET = re.compile(rb"[\x21-\x22\x24-\x7e]+")
"""As in a request line of HTTP/1.1."""

_LENGTH = re.compile(rb"[0-9]+")
"""The value of Content-Length (RFC 9110 section 8.6)."""

_OF_CONNECTIONS = frozenset((b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"))
"""Fields that belong to a connection of HTTP/1.1, and make a request malformed (section 8.2.2)."""

_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))


class MalformedError(Exception):
    """A malformed request (section 8.1.1). The text quotes nothing of what the client sent."""


def size_of(fields: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the size of a header list in bytes (section 6.5.2)."""
    return sum(len(name) + len(value) + FIELD_OVERHEAD for name, value in fields)


def parse(lines: list[tuple[bytes, bytes]]) -> tuple[Head, bytes | None]:
    """Return the head of a request, and the value of `:protocol`, or None. Raises `MalformedError`.

    A CONNECT without `:protocol` has the authority as its target.
    """
    pseudo: dict[bytes, bytes] = {}
    fields: Fields = {}
    for name, value in lines:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or fields:
                raise MalformedError("a pseudo-header field that is unknown, that comes twice, or that comes late")
            pseudo[name] = value
        elif not _NAME.fullmatch(name):
            raise MalformedError("the name of a header field")
        else:
            fields.setdefault(name, []).append(value)
        if not _VALUE.fullmatch(value):
            raise MalformedError("the value of a header field")
    if not fields.keys().isdisjoint(_OF_CONNECTIONS) or fields.get(b"te", [b"trailers"]) != [b"trailers"]:
        raise MalformedError("a header field of HTTP/1.1")
    lengths = set(fields.get(b"content-length", ()))
    if len(lengths) > 1 or not all(map(_LENGTH.fullmatch, lengths)):
        raise MalformedError("Content-Length")
    method, protocol = pseudo.get(b":method", b""), pseudo.get(b":protocol")
    _check_pseudo(method, protocol, pseudo)
    authority = pseudo.get(b":authority")
    if authority is not None:
        if fields.setdefault(b"host", [authority]) != [authority]:
            raise MalformedError("a Host that is not the authority")
        lines = [(b"host", authority), *lines] if (b"host", authority) not in lines else lines
    target = pseudo[b":path"] if b":path" in pseudo else pseudo[b":authority"]
    if not _TARGET.fullmatch(target):
        raise MalformedError("the request target")
    return Head(method, target, b"2", fields, [line for line in lines if line[0] not in _PSEUDO]), protocol


def _check_pseudo(method: bytes, protocol: bytes | None, pseudo: dict[bytes, bytes]) -> None:
    """Check which pseudo-header fields there are: RFC 9113 sections 8.3.1 and 8.5, and RFC 8441 section 4."""
    if not method:
        raise MalformedError("no method")
    if method == b"CONNECT" and protocol is None:
        if b":authority" not in pseudo or b":path" in pseudo or b":scheme" in pseudo:
            raise MalformedError("the pseudo-header fields of CONNECT")
        return
    if not pseudo.get(b":path") or not pseudo.get(b":scheme"):
        raise MalformedError("no path, or no scheme")
    if protocol is not None and (method != b"CONNECT" or b":authority" not in pseudo):
        raise MalformedError("a `:protocol` without CONNECT, or without an authority")

"""The rules of an opening handshake: a request head in, a verdict out.

The verdict is a `Request`, which may be answered with 101, a `PageRequest`, or a `Refusal`. Autobahn never sees the
head: it gets the checked values that the opening handshake needs (RFC 6455 section 4.2.1). `head_reader.py` has the
reason.

Pure. Knows HTTP/1.1 (RFC 9110) and the opening handshake. Must never know a transport.
"""

from __future__ import annotations

import re
from dataclasses import replace
from enum import Enum

from echod.http import paths, request
from echod.http.refusals import (
    BAD_HTTP_VERSION,
    BAD_VERSION,
    BAD_VERSION_OF_STREAM,
    NO_TUNNEL,
    NO_UPGRADE_OF_HEAD,
    NOT_ALLOWED,
    ORIGIN_REFUSED,
    PLAIN_HTTP,
    TOO_LARGE,
    TOO_MANY_LINES,
    UNKNOWN_PROTOCOL,
    Refusal,
    bad_request,
)
from echod.http.request import TOKEN, Fields, Head, PageRequest, Request, has_member, members
from echod.settings import Http2Mode, Settings


class Http2(Enum):
    """The verdict on the head with which the preface of HTTP/2 begins (RFC 9113 section 3.4)."""

    PREFACE = "preface"


Verdict = Request | PageRequest | Refusal
"""The verdict on a request."""

_PREFACE_HEAD = b"PRI * HTTP/2.0\r\n\r\n"

PREFACE_SIZE = len(_PREFACE_HEAD)
"""Bytes of that head."""

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]*)?")

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # RFC 6455 section 4.1: 16 bytes in base64

_LIST_ITEM = re.compile(TOKEN)

# RFC 6455 section 9.1: `name; parameter; parameter=value`. A value is a token, quoted or not.
_PARAMETER = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb'|"' + TOKEN + rb'"))?'
_EXTENSION = re.compile(TOKEN + rb"(?:" + _PARAMETER + rb")*")

_HANDSHAKE_FIELDS = (b"sec-websocket-key", b"sec-websocket-version")
"""Fields that only an opening handshake has (RFC 6455 section 4.1). `Upgrade` and `Connection` have other uses, too."""

JUDGED_FIELDS = (
    b"connection",
    b"content-length",
    b"host",
    b"origin",
    b"sec-websocket-extensions",
    b"sec-websocket-key",
    b"sec-websocket-protocol",
    b"sec-websocket-version",
    b"transfer-encoding",
    b"upgrade",
)
"""The fields that the verdict on an opening handshake depends on, in lower case. Of a field that is not named here any
value gives the same verdict, as long as no octet in it is forbidden."""

_DOES_A_PROXY = "Does a proxy drop it?"


class HandshakeGuard:
    """Judges request heads by the settings. One guard serves all connections."""

    def __init__(self, settings: Settings, has_pages: bool = False) -> None:
        """Without pages, any request that is no opening handshake is refused."""
        self._has_pages = has_pages
        self._has_console = settings.has_console
        self._has_http2 = settings.http2 is not Http2Mode.OFF
        self.max_head_size = settings.max_request_head
        self._max_head_lines = settings.max_head_lines
        self._origins = tuple(pattern.lower() for pattern in settings.origins)

    def begins_http2(self, octets: bytes) -> bool:
        """Tell whether the first `PREFACE_SIZE` bytes of a connection are HTTP/2's, and that is spoken here."""
        return octets == _PREFACE_HEAD and self._has_http2

    def judge(self, octets: bytes) -> Verdict | Http2:
        """Judge a complete request head, including its blank line. The caller has checked its bytes."""
        head = request.parse(octets, self._max_head_lines)
        if isinstance(head, Refusal):
            return head
        fields = head.fields
        refusal = _check_message(head) or _check_upgrade(head) or _check_handshake(fields) or self._check_origin(fields)
        if refusal is None:
            return _make_request(head)
        if refusal is BAD_HTTP_VERSION and self.begins_http2(octets):
            return Http2.PREFACE
        return self._make_page(head, refusal)

    def judge_stream(self, head: Head, protocol: bytes | None, size: int, has_body: bool) -> Verdict:
        """Judge a request over HTTP/2. `protocol` is the value of `:protocol` (RFC 8441), and `size` is that of the
        header list in bytes. `has_body` says whether the stream goes on after the fields."""
        if size > self.max_head_size:
            return TOO_LARGE
        if len(head.lines) > self._max_head_lines:
            return TOO_MANY_LINES
        if head.method == b"CONNECT":
            return self._judge_connect(head, protocol)
        return self._make_page(head, _check_stream_message(head, has_body) or PLAIN_HTTP)

    def _judge_connect(self, head: Head, protocol: bytes | None) -> Verdict:
        """Judge an extended CONNECT (RFC 8441 section 5): no key, no Upgrade and no Connection, but all else."""
        if protocol is None:
            return NO_TUNNEL
        if protocol.lower() != b"websocket":
            return UNKNOWN_PROTOCOL
        if not _HOST.fullmatch(head.fields[b"host"][0]):
            return bad_request("the Host header")
        if head.fields.get(b"sec-websocket-version", []) != [b"13"]:
            return BAD_VERSION_OF_STREAM
        return self._check_origin(head.fields) or _make_request(head)

    def _make_page(self, head: Head, refusal: Refusal) -> PageRequest | Refusal:
        """Return the page that the request asks for, if it may be one, or else the refusal."""
        found = self._find_page(head) if refusal is PLAIN_HTTP else refusal
        return found if isinstance(found, PageRequest) else replace(found, has_body=head.method != b"HEAD")

    def _find_page(self, head: Head) -> PageRequest | Refusal:
        # An opening handshake whose Upgrade field a proxy has dropped gets no page, but a refusal.
        if not self._has_pages or any(name in head.fields for name in _HANDSHAKE_FIELDS):
            return PLAIN_HTTP
        url = paths.split(head.target)
        if url is None:
            return bad_request("the request target")
        path, _ = url
        if path in paths.ONLY_WEBSOCKET or (not self._has_console and path not in paths.FOR_PROGRAMS):
            return PLAIN_HTTP
        return PageRequest(head.method, path or "/", head.fields)

    def _check_origin(self, fields: Fields) -> Refusal | None:
        if b"origin" not in fields:
            return None
        origins = [value.decode("latin-1").lower() for value in fields[b"origin"]]
        if len(origins) > 1:
            return bad_request("the Origin header")
        allowed = not self._origins or any(matches(pattern, origins[0]) for pattern in self._origins)
        return None if allowed else ORIGIN_REFUSED


def matches(pattern: str, text: str) -> bool:
    """Tell whether `text` matches `pattern`. `*` stands for any characters; every other character stands for itself.

    It takes linear time, whatever the text: a regular expression with several `*` would try every way to divide it.
    """
    first, *others = pattern.split("*")
    if not others:
        return text == pattern
    *middle, last = others
    start, end = len(first), len(text) - len(last)
    if not (text.startswith(first) and text.endswith(last)):
        return False
    for part in middle:
        found = text.find(part, start, end)
        if found < 0:
            return False
        start = found + len(part)
    return start <= end


def _check_message(head: Head) -> Refusal | None:
    """Check what every HTTP request must have, and that there is no body: a body would be taken for frames."""
    if not head.version.startswith(b"1."):  # RFC 9110 section 2.5: a higher minor version is served
        return BAD_HTTP_VERSION
    if head.method not in (b"GET", b"HEAD"):
        return NOT_ALLOWED
    fields = head.fields
    has_content = b"content-length" in fields and set(fields[b"content-length"]) != {b"0"}
    if has_content or b"transfer-encoding" in fields:
        return bad_request("a body")
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (not hosts and head.version != b"1.0") or (hosts and not _HOST.fullmatch(hosts[0])):
        return bad_request("the Host header")
    return None


def _check_stream_message(head: Head, has_body: bool) -> Refusal | None:
    """Check what every request over HTTP/2 must have."""
    if head.method not in (b"GET", b"HEAD"):
        return NOT_ALLOWED
    if has_body:
        return bad_request("a body")
    hosts = head.fields.get(b"host", [])
    return None if len(hosts) == 1 and _HOST.fullmatch(hosts[0]) else bad_request("the Host header")


def _check_upgrade(head: Head) -> Refusal | None:
    """Check that the request asks for an upgrade to WebSocket (RFC 6455 section 4.2.1, items 1 and 3).

    RFC 9110 section 7.8: a server may ignore an Upgrade, and must ignore one in HTTP/1.0. This server ignores an
    upgrade to any other protocol.
    """
    if head.version == b"1.0":
        is_handshake = head.method == b"GET" and b"sec-websocket-key" in head.fields
        return BAD_HTTP_VERSION if is_handshake else PLAIN_HTTP
    if not has_member(head.fields, b"upgrade", b"websocket"):
        return PLAIN_HTTP
    return NO_UPGRADE_OF_HEAD if head.method != b"GET" else None


def _check_handshake(fields: Fields) -> Refusal | None:
    """Check the fields of an opening handshake (RFC 6455 section 4.2.1, items 4 to 6)."""
    if not has_member(fields, b"connection", b"upgrade"):
        return bad_request("the Connection header does not say `Upgrade`", _DOES_A_PROXY)
    if fields.get(b"sec-websocket-version", []) != [b"13"]:
        return BAD_VERSION
    keys = fields.get(b"sec-websocket-key", [])
    if not keys:
        return bad_request("the Sec-WebSocket-Key header is missing", _DOES_A_PROXY)
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return bad_request("the Sec-WebSocket-Key header")
    return None


def _make_request(head: Head) -> Request | Refusal:
    fields = head.fields
    subprotocols = members(fields, b"sec-websocket-protocol")
    if subprotocols and (
        len(set(subprotocols)) < len(subprotocols) or not all(map(_LIST_ITEM.fullmatch, subprotocols))
    ):
        return bad_request("the Sec-WebSocket-Protocol header")
    extensions = members(fields, b"sec-websocket-extensions")
    if extensions and not all(map(_EXTENSION.fullmatch, extensions)):
        return bad_request("the Sec-WebSocket-Extensions header")
    url = paths.split(head.target)
    if url is None:
        return bad_request("the request target")
    key = fields[b"sec-websocket-key"][0].decode() if head.version != b"2" else _find_key(fields)
    return Request(
        *url, key, tuple(map(bytes.decode, subprotocols)), b", ".join(extensions).decode(), fields, head.lines
    )


def _find_key(fields: Fields) -> str:
    """Return the key of a request over HTTP/2, or an empty string. There is none to check (RFC 8441 section 5), but a
    proxy may pass on the key of a client that speaks HTTP/1.1."""
    keys = fields.get(b"sec-websocket-key", [])
    return keys[0].decode() if len(keys) == 1 and _KEY.fullmatch(keys[0]) else ""

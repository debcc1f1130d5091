"""The request head, which Autobahn never sees: collect it, judge it, and hand on what was asked for.

Autobahn splits lines with `str.splitlines()` (so that the octet 0x85 begins a header), takes folded lines, NUL, headers
without a colon and version `+1_3`, has no limit on the head and searches it from the start with each read. Therefore
Autobahn never gets the head: what is handed on are the values that the opening handshake needs (RFC 6455 section
4.2.1), each of them checked.

Pure: octets in, a verdict out. Knows HTTP/1.1 (RFC 9112) and the opening handshake. Must never know a transport, and
never puts what a client sent into an answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from echod.settings import Settings

TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""A pattern (RFC 9110 section 5.6.2), which names of fields and subprotocols match."""

Fields = dict[bytes, list[bytes]]

_METHOD_OCTETS = frozenset(bytes([octet]) for octet in range(256) if re.fullmatch(TOKEN, bytes([octet])))

# No controls but HTAB, CR and LF. All octets above ASCII are obs-text (RFC 9110 section 5.5), which browsers send in
# cookies.
_GOOD_OCTETS = b"\t\n\r" + bytes({*range(0x20, 0x100)} - {0x7F})

_EMPTY_LINE = (b"", b"\r", b"\r\n")
"""What may come before the request line (RFC 9112 section 2.2): one empty line, or a part of it."""

_REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") ([\x21-\x22\x24-\x7e]+) HTTP/([0-9]\.[0-9])\r\n")

# A line that begins with white space (folded) or has some before its colon matches nothing here.
_HEADER_LINE = re.compile(rb"^(" + TOKEN + rb"):([^\r\n]*)\r$", re.MULTILINE)

_HOST = re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+,;=]*|\[[0-9A-Fa-f:.%]+\])(?::[0-9]*)?")

_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")  # RFC 6455 section 4.1: 16 octets in base64

_LIST_ITEM = re.compile(TOKEN)

# RFC 6455 section 9.1: `name; parameter; parameter=value`, a value being a token, quoted or not.
_PARAMETER = rb"[ \t]*;[ \t]*" + TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + TOKEN + rb'|"' + TOKEN + rb'"))?'
_EXTENSION = re.compile(TOKEN + rb"(?:" + _PARAMETER + rb")*")

# An address, which may have a port behind it (Azure's gateways) and is in brackets then if it is of IPv6, as in a URL.
# No zone (`fe80::1%eth0`), which says nothing elsewhere (RFC 4007 section 6), and for which Python takes any text of
# any length.
_HOP = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""What stands behind a status; of one that is not registered (RFC 9112 section 4 lets the phrase be empty), nothing."""

_HANDSHAKE_FIELDS = (b"sec-websocket-key", b"sec-websocket-version")
"""Fields of an opening handshake alone (RFC 6455 section 4.1). `Upgrade` and `Connection` have other uses, too."""

_DOES_A_PROXY = "Does a proxy drop it?"

JSON_PATH = "/json"
INFO_PATH = "/info"
HEALTH_PATH = "/healthz"

_ONLY_WEBSOCKET = (JSON_PATH, INFO_PATH)
"""Paths that mean something to a WebSocket client alone, who is told so when it comes without an upgrade."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer other than 101, in fixed words. `status` 0 stands for no answer at all: the peer does not speak
    HTTP."""

    status: int
    why: str
    """The reason. The answer, the log and the metric say it in the same words."""
    headers: tuple[tuple[str, str], ...] = ()
    begin: str = ""
    """What the answer says before the reason."""
    hint: str = ""
    """What the answer says behind it."""
    has_body: bool = True

    @property
    def text(self) -> str:
        """What the answer says."""
        return f"{self.begin}{self.why}. {self.hint}".rstrip()


class Request(NamedTuple):
    """An opening handshake that may be answered with 101. A tuple, which is made in a third of the time of a frozen
    dataclass."""

    path: str
    query: str
    key: str
    subprotocols: tuple[str, ...]
    extensions: str
    """All extensions offered, as one header value."""
    fields: Fields
    """The values of each header field, by its name in lower case."""
    lines: Sequence[tuple[bytes, bytes]]
    """The header's lines as they came: name, and what is behind the colon."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A GET or HEAD that wants no WebSocket."""

    method: bytes
    path: str
    fields: Fields


NOT_HTTP = Refusal(0, "does not speak HTTP")
TOO_LARGE = Refusal(431, "The request head is too large")
TOO_MANY_LINES = Refusal(431, "The request head has too many lines")
NOT_ALLOWED = Refusal(405, "Only GET and HEAD are answered here", (("Allow", "GET, HEAD"),))
NO_UPGRADE_OF_HEAD = Refusal(405, "Only a GET can be upgraded", (("Allow", "GET"),))
BAD_HTTP_VERSION = Refusal(505, "HTTP/1.1 is needed")
PLAIN_HTTP = Refusal(
    426,
    "This is echod, a WebSocket echo server",
    (("Upgrade", "websocket"),),
    hint="Open this URL with ws:// (or wss://) in a WebSocket client.",
)
BAD_VERSION = Refusal(
    426, "WebSocket version 13 is needed", (("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
)
ORIGIN_REFUSED = Refusal(403, "This origin may not connect")
DAEMON_FULL = Refusal(503, "Too many connections", (("Retry-After", "5"),))
NO_ROOM = Refusal(503, "Too much is buffered", (("Retry-After", "5"),))
GOING_AWAY = Refusal(503, "Shutting down", (("Retry-After", "1"),))
ADDRESS_FULL = Refusal(429, "Too many connections from this address", (("Retry-After", "5"),))


def bad_request(what: str, hint: str = "") -> Refusal:
    """Refuse with 400 and say what is wrong."""
    return Refusal(HTTPStatus.BAD_REQUEST, what, begin="Bad request: ", hint=hint)


def render(refusal: Refusal, date: str) -> bytes:
    """Return the octets of the answer; `date` is the time in the form of RFC 9110 section 5.6.7."""
    body = refusal.text.encode() + b"\n"
    # 304 has no body, nor the header of one (RFC 9110 section 15.4.5).
    is_bare = refusal.status == HTTPStatus.NOT_MODIFIED
    connection = "Upgrade, close" if refusal.status == HTTPStatus.UPGRADE_REQUIRED else "close"
    lines = [
        f"HTTP/1.1 {refusal.status} {_PHRASES.get(refusal.status, '')}",
        f"Date: {date}",
        f"Connection: {connection}",
        *(f"{name}: {value}" for name, value in refusal.headers),
    ]
    if not is_bare:
        lines += [
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "X-Content-Type-Options: nosniff",
        ]
    return "\r\n".join([*lines, "", ""]).encode() + (body if refusal.has_body and not is_bare else b"")


class HandshakeGuard:
    """What the settings have to say of request heads; one for all connections."""

    def __init__(self, settings: Settings, has_pages: bool = False) -> None:
        """Without pages, any request that is no opening handshake is refused."""
        self._has_pages = has_pages
        self._has_console = settings.has_console
        self.max_head_size = settings.max_request_head
        self.max_head_lines = settings.max_head_lines
        self._origins = tuple(pattern.lower() for pattern in settings.origins)

    def judge(self, head: bytes) -> Request | PageRequest | Refusal:
        """Judge a complete request head, its blank line included, in which no octet is bad."""
        line_count = head.count(b"\r\n") - 2
        if line_count > self.max_head_lines:
            return TOO_MANY_LINES
        match = _REQUEST_LINE.match(head)
        if match is None:
            return bad_request("the request line")
        lines = _HEADER_LINE.findall(head, match.end())
        if len(lines) != line_count:
            return bad_request("a header line that is not `name: value`")
        fields: Fields = {name.lower(): [value.strip(b" \t")] for name, value in lines}
        if len(fields) < line_count:  # seldom: some come twice
            fields = {name: [] for name in fields}
            for name, value in lines:
                fields[name.lower()].append(value.strip(b" \t"))
        method, target, version = match.groups()
        refusal = _check_message(method, version, fields) or _check_upgrade(method, version, fields)
        refusal = refusal or _check_handshake(fields) or self._check_origin(fields)
        if refusal is None:
            return _make_request(target, fields, lines)
        if refusal is PLAIN_HTTP:
            found = self._find_page(method, target, fields)
            if isinstance(found, PageRequest):
                return found
            refusal = found
        return replace(refusal, has_body=method != b"HEAD")

    def _find_page(self, method: bytes, target: bytes, fields: Fields) -> PageRequest | Refusal:
        # A handshake of which a proxy has dropped the Upgrade header is refused.
        if not self._has_pages or any(name in fields for name in _HANDSHAKE_FIELDS):
            return PLAIN_HTTP
        url = _split(target)
        if url is None:
            return bad_request("the request target")
        path, _ = url
        if path in _ONLY_WEBSOCKET or (not self._has_console and path != HEALTH_PATH):
            return PLAIN_HTTP
        return PageRequest(method, path or "/", fields)

    def _check_origin(self, fields: Fields) -> Refusal | None:
        if b"origin" not in fields:
            return None
        origins = [value.decode("latin-1").lower() for value in fields[b"origin"]]
        if len(origins) > 1:
            return bad_request("the Origin header")
        allowed = not self._origins or any(matches(pattern, origins[0]) for pattern in self._origins)
        return None if allowed else ORIGIN_REFUSED


class HeadReader:
    """The request head of one connection, as it comes in."""

    __slots__ = ("_guard", "_octets", "_scanned", "rest")

    def __init__(self, guard: HandshakeGuard) -> None:
        self._guard = guard
        self._octets: bytes | bytearray = b""
        self._scanned = 0
        self.rest = b""
        """What came behind the head."""

    @property
    def held(self) -> int:
        """The octets that have come."""
        return len(self._octets)

    def feed(self, data: bytes) -> Request | PageRequest | Refusal | None:
        """Take octets; return the verdict once there is one. Linear in the octets, however they are cut."""
        octets, scanned = self._octets, self._scanned
        if octets in _EMPTY_LINE:
            octets = bytes(octets) + data
            if octets in _EMPTY_LINE:
                self._octets = octets
                return None
            octets = octets.removeprefix(b"\r\n")  # mostly the whole head
            if octets[:1] not in _METHOD_OCTETS:
                return NOT_HTTP
        else:
            if isinstance(octets, bytes):
                octets = bytearray(octets)
            scanned -= octets.endswith(b"\r")
            octets += data
        # The blank line may have begun in what was there before.
        most = self._guard.max_head_size
        end = octets.find(b"\r\n\r\n", max(0, self._scanned - 3), most)
        # What is behind the blank line, or over the limit, is not looked at.
        new = octets[scanned : most if end < 0 else end + 4]
        if _has_bad_octet(new):
            return bad_request("an octet that no request head may hold")
        if end < 0:
            self._octets, self._scanned = octets, len(octets)
            return TOO_LARGE if len(octets) >= most else None
        self.rest = bytes(octets[end + 4 :])
        return self._guard.judge(bytes(octets[: end + 4]) if scanned else bytes(new))


def _has_bad_octet(octets: bytes | bytearray) -> bool:
    """Tell whether there is an octet that no head may hold, a bare CR or LF among them; a CR at the end may yet get its
    LF."""
    pairs = octets.count(b"\r\n")
    is_paired = octets.count(b"\n") == pairs == octets.count(b"\r") - octets.endswith(b"\r")
    return not is_paired or bool(octets.translate(None, _GOOD_OCTETS))


def matches(pattern: str, text: str) -> bool:
    """Tell whether `text` matches `pattern`, in which `*` stands for any characters, and every other character for
    itself.

    In linear time, whatever the text: a regular expression with several `*` would try every way to divide it.
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


def client_address(request: Request, peer: str | None, trusted_hops: int) -> str | None:
    """Return the client's IP address: `peer`, or what the trusted proxies in front say of it in `X-Forwarded-For`.

    Each of them appends the address it was called from, so the client's is the `trusted_hops`-th from the end; what
    stands before it, the client may have made up. What is no address is not believed. `peer` is None over a Unix
    socket, which has none.
    """
    hops = _list(request.fields, b"x-forwarded-for") if trusted_hops else []
    if not hops:
        return peer
    hop = _HOP.fullmatch(hops[-min(trusted_hops, len(hops))].decode("latin-1"))
    if hop is None:
        return peer
    try:
        return plain_address(str(IPv6Address(hop[2]) if hop[2] else ip_address(hop[1] or hop[3])))
    except ValueError:
        return peer


def plain_address(address: str) -> str:
    """Return an IPv4 address as such that is in the form of IPv6 (RFC 4291 section 2.5.5.2), as over a socket for both;
    others as they are.

    One client has one name then, whichever endpoint it comes to.
    """
    if not address.startswith("::ffff:"):
        return address
    if ":" not in (dotted := address.removeprefix("::ffff:")):  # as the kernel writes it
        return dotted
    return str(IPv6Address(address).ipv4_mapped or address)


def place_of(address: str) -> str:
    """Return what a client's connections are counted under: its address, or of IPv6 the network of 64 bits.

    A host or a home is given such a network at least (RFC 6177 section 2), and takes any addresses in it (RFC 8981).
    """
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], 64), strict=False))


def _list(fields: Fields, name: bytes) -> list[bytes]:
    """Return the members of a header that is a list (RFC 9110 section 5.6.1: empty ones are ignored), over all its
    lines."""
    if name not in fields:
        return []
    return [item for value in fields[name] for part in value.split(b",") if (item := part.strip(b" \t"))]


def _has(fields: Fields, name: bytes, token: bytes) -> bool:
    """Tell whether a header that is a list names `token`; mostly it is the only member."""
    values = fields.get(name, [])
    return (len(values) == 1 and values[0].lower() == token) or token in (item.lower() for item in _list(fields, name))


def _check_message(method: bytes, version: bytes, fields: Fields) -> Refusal | None:
    """Check what any HTTP request must have, and that there is no body: what came behind the head would be taken for
    frames."""
    if not version.startswith(b"1."):  # RFC 9110 section 2.5: a higher minor version is served
        return BAD_HTTP_VERSION
    if method not in (b"GET", b"HEAD"):
        return NOT_ALLOWED
    if set(fields.get(b"content-length", ())) - {b"0"} or b"transfer-encoding" in fields:
        return bad_request("a body")
    hosts = fields.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version != b"1.0") or (hosts and not _HOST.fullmatch(hosts[0])):
        return bad_request("the Host header")
    return None


def _check_upgrade(method: bytes, version: bytes, fields: Fields) -> Refusal | None:
    """Check that the request asks for an upgrade to WebSocket, as RFC 6455 section 4.2.1 has it in items 1 and 3.

    RFC 9110 section 7.8: a server may ignore an Upgrade, as this one does to other protocols, and must do so in
    HTTP/1.0.
    """
    if version == b"1.0":
        return BAD_HTTP_VERSION if method == b"GET" and b"sec-websocket-key" in fields else PLAIN_HTTP
    if not _has(fields, b"upgrade", b"websocket"):
        return PLAIN_HTTP
    return NO_UPGRADE_OF_HEAD if method != b"GET" else None


def _check_handshake(fields: Fields) -> Refusal | None:
    """Check the fields of an opening handshake, as RFC 6455 section 4.2.1 has them in items 4 to 6."""
    if not _has(fields, b"connection", b"upgrade"):
        return bad_request("the Connection header does not say `Upgrade`", _DOES_A_PROXY)
    if fields.get(b"sec-websocket-version", []) != [b"13"]:
        return BAD_VERSION
    keys = fields.get(b"sec-websocket-key", [])
    if not keys:
        return bad_request("the Sec-WebSocket-Key header is missing", _DOES_A_PROXY)
    if len(keys) != 1 or not _KEY.fullmatch(keys[0]):
        return bad_request("the Sec-WebSocket-Key header")
    return None


def _make_request(target: bytes, fields: Fields, lines: Sequence[tuple[bytes, bytes]]) -> Request | Refusal:
    subprotocols = _list(fields, b"sec-websocket-protocol")
    if subprotocols and (
        len(set(subprotocols)) < len(subprotocols) or not all(map(_LIST_ITEM.fullmatch, subprotocols))
    ):
        return bad_request("the Sec-WebSocket-Protocol header")
    extensions = _list(fields, b"sec-websocket-extensions")
    if extensions and not all(map(_EXTENSION.fullmatch, extensions)):
        return bad_request("the Sec-WebSocket-Extensions header")
    url = _split(target)
    if url is None:
        return bad_request("the request target")
    key = fields[b"sec-websocket-key"][0].decode()
    return Request(*url, key, tuple(map(bytes.decode, subprotocols)), b", ".join(extensions).decode(), fields, lines)


def _split(target: bytes) -> tuple[str, str] | None:
    """Return path and query, or None if it is no request target of RFC 9112 section 3.2 but for the one of CONNECT."""
    try:
        text = target.decode()
        if text.startswith("/"):
            # All of it is path and query (RFC 9112 section 3.2.1): urlsplit would take what is behind `//` for a host.
            path, _, query = text.partition("?")
            return path, query
        url = urlsplit(text)
    except ValueError:
        return None
    # Else it is in absolute-form: twisted.web takes off the first octet of any other, and would find /healthz for
    # `xhealthz`.
    if text != "*" and not (url.scheme and url.netloc):
        return None
    return url.path, url.query

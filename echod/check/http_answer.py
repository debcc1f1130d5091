"""Describes the answer to an opening handshake for a person: status, header fields, and the line of the body that says
something.

Pure: bytes in, an `Answer` out. Autobahn decides whether a 101 is correct. Must never touch a transport.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse, IncompleteRead
from io import BytesIO
from typing import Any, cast

MAX_HEAD_SIZE = 64 * 1024
"""Bytes of the longest head. Common servers send less, and http.client accepts as much in one line."""

MAX_BODY_SIZE = 16 * 1024
"""Bytes of a body that are searched for a line."""

MAX_ANSWER_SIZE = 256 * 1024
"""After this many bytes of an answer, however its body is chunked, the check waits for no more."""

_HEAD_END = b"\r\n\r\n"
_BEGIN = b"HTTP/"

_INTERIM = re.compile(rb"HTTP/1\.[0-9] 1(?!01)[0-9][0-9][ \r]")

_TLS_WANTED = re.compile("HTTPS|SSL|TLS")
"""nginx, Apache, Go and Envoy answer plain HTTP with a 400 that has one of these words, if they expect TLS."""

_REASON = "Bad request: "
"""echod's own answer with 400 begins with this, and goes on with what is wrong."""

_TITLE = re.compile(r"<title[^>]*>(.*?)</title", re.IGNORECASE | re.DOTALL)

# The first bytes of a TLS record with an alert (RFC 8446 sections 5.1 and 6). A TLS server sends it in answer to plain
# HTTP.
_TLS_ALERT = b"\x15\x03"


class NotHttpError(ValueError):
    """The bytes are not an HTTP answer. The message says what they are."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, with the part of its body that has come."""

    status: int
    line: str
    """The status line without the version: `503 Service Unavailable`."""
    fields: Sequence[tuple[str, str]]
    body: bytes
    is_whole: bool
    """Whether the check waits for no more of the body."""

    def values(self, name: str) -> str:
        """Return the values of a field, joined (RFC 9110 section 5.3); empty if there are none."""
        return ", ".join(value for key, value in self.fields if key.lower() == name)

    @property
    def upgrades(self) -> bool:
        """Whether both fields that a 101 must have are there (RFC 6455 section 4.1)."""
        options = [option.strip().lower() for option in self.values("connection").split(",")]
        return bool(self.values("upgrade")) and "upgrade" in options

    @property
    def first_line(self) -> str:
        """The title of an HTML page, or the first line of the body that is not empty."""
        text = self.body.decode(errors="replace")
        if (title := _TITLE.search(text)) is not None:
            return " ".join(html.unescape(title[1]).split())
        return next((line.strip() for line in text.splitlines() if line.strip()), "")

    def describe(self) -> list[str]:
        """Return what the answer says beside its status, in lines."""
        fields = [(name, self.values(name.lower())) for name in ("Location", "Upgrade", "Connection", "Server", "Via")]
        body = [f"body: {self.first_line}"] if self.first_line else []
        return [*(f"{name}: {value}" for name, value in fields if value), *body]

    def hint(self, is_http2: bool = False) -> str:
        """Return the likely reason of a refusal; empty if there is nothing to say beyond the answer itself."""
        who = ", ".join(filter(None, (self.values("server"), self.values("via"))))
        by = f" ({who} answered)" if who else ""
        match self.status:
            case 101 if not self.upgrades:
                why = "a proxy in between may have dropped Upgrade and Connection from the answer"
            case 400 if _TLS_WANTED.search(self.first_line):
                why = "the server speaks TLS on this port; then it is wss://"
            case 400 if self.first_line.startswith(_REASON):
                return ""
            case 400 | 404 | 405 | 426 | 501 if is_http2:
                why = "this is not a WebSocket address"
            case 200 | 400 | 404 | 405 | 426:
                why = "this is not a WebSocket address, or a proxy in between does not pass on Upgrade and Connection"
            case 301 | 302 | 303 | 307 | 308:
                return "the check does not follow redirects; try the address in Location"
            case 502 | 504:
                why = "a proxy in between can't reach the server behind it"
            case 505:
                why = (
                    "a proxy in between may speak HTTP/1.0 to the server behind it; nginx needs "
                    "`proxy_http_version 1.1`"
                )
            case _:
                return ""
        return why + by


def split_head(octets: bytes) -> int:
    """Return the size of the answer's head; 0 if the head is incomplete. Raises `NotHttpError`."""
    if octets.startswith(_TLS_ALERT):
        raise NotHttpError("the server speaks TLS on this port: use wss://")
    if not octets.startswith(_BEGIN[: len(octets)]):
        raise NotHttpError("the answer is not HTTP")
    end = octets.find(_HEAD_END, 0, MAX_HEAD_SIZE)
    if end < 0 and len(octets) >= MAX_HEAD_SIZE:
        raise NotHttpError(f"the head of the answer is longer than {MAX_HEAD_SIZE} bytes")
    return end + len(_HEAD_END) if end >= 0 else 0


def parse(octets: bytes) -> Answer:
    """Parse an answer whose head is complete. Raises `NotHttpError`."""
    response = HTTPResponse(cast(Any, _Received(octets)), method="GET")
    try:
        response.begin()
    except HTTPException as error:
        raise NotHttpError(f"the answer is not HTTP: {str(error) or type(error).__name__}") from error
    try:
        body = response.read(MAX_BODY_SIZE)
        is_whole = len(body) == MAX_BODY_SIZE or bool(response.chunked) or response.length == 0
    except IncompleteRead as error:
        body, is_whole = error.partial, False
    except HTTPException:  # the line before a chunk never ends
        body, is_whole = b"", True
    line = f"{response.status} {response.reason}".strip()
    is_whole = is_whole or len(octets) >= MAX_ANSWER_SIZE
    return Answer(response.status, line, tuple(response.getheaders()), body, is_whole)


def skip_interim(octets: bytes) -> bytes:
    """Return what follows the interim answers: any number of 1xx except 101 (RFC 9110 section 15.2).

    Raises `NotHttpError`.
    """
    while _INTERIM.match(octets) and (size := split_head(octets)):
        octets = octets[size:]
    return octets


class _Received:
    """Bytes that have come already, in the form of a socket as far as http.client needs one."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets

    def makefile(self, _mode: str) -> BytesIO:
        return BytesIO(self._octets)

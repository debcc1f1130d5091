"""An answer to plain HTTP as a value, and what answers have in common: compression, entity tags, a content policy.

Pure. Knows the header fields of HTTP (RFC 9110). Must never know how an answer is sent: `pages.py` writes its bytes,
and `resources.py` hands it to twisted.web.
"""

from __future__ import annotations

import gzip
import re
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus

HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"

_ALWAYS = (("Cache-Control", "no-cache"), ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"))
"""Header fields of every answer. no-cache: a client may use its copy after it has asked with the copy's ETag (RFC 9111
section 5.2.2.4)."""

_ENTITY_TAG = re.compile(rb'"[\x21\x23-\x7e]*"')

_INLINE = re.compile(rb"<(script|style)>(.*?)</\1>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to GET. The answer to HEAD is the same without the body."""

    status: int
    content_type: str
    """Empty if there is no content at all, as with 304."""
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """All header fields that say something about the answer, in their order."""
        content = (("Content-Type", self.content_type), ("Content-Length", str(len(self.body))))
        return (*_ALWAYS, *self.headers, *(content if self.content_type else ()))


def text(status: int, line: str, *headers: tuple[str, str]) -> Answer:
    """Return one line of plain text."""
    return Answer(status, TEXT, line.encode() + b"\n", headers)


class Fixed:
    """A page that is always the same."""

    def __init__(self, content_type: str, body: bytes, *headers: tuple[str, str]) -> None:
        self._content_type = content_type
        self._body = body
        self._squeezed = gzip.compress(body, mtime=0)
        self._headers = headers
        self._tag = b64encode(sha256(body).digest()[:12], b"-_").decode()

    def answer(self, accept_encoding: bytes, if_none_match: bytes) -> Answer:
        """Return the answer to a request with these header fields.

        The page is compressed for a client that accepts gzip. A client that has the page gets 304 (RFC 9110 section
        13).
        """
        is_squeezed = accepts_gzip(accept_encoding)
        # Two representations of one resource, and so two strong tags (section 8.8.3.3).
        tag = f'"{self._tag}-gzip"' if is_squeezed else f'"{self._tag}"'
        common = (*self._headers, ("ETag", tag), ("Vary", "Accept-Encoding"))
        if has_entity_tag(if_none_match, tag.encode()):
            return Answer(HTTPStatus.NOT_MODIFIED, "", b"", common)
        if is_squeezed:
            return Answer(HTTPStatus.OK, self._content_type, self._squeezed, (*common, ("Content-Encoding", "gzip")))
        return Answer(HTTPStatus.OK, self._content_type, self._body, common)


def has_entity_tag(if_none_match: bytes, tag: bytes) -> bool:
    """Tell whether the value of If-None-Match names `tag`. The value is `*` or a list of tags, weak or not (RFC 9110
    section 13.1.2)."""
    return if_none_match.strip() == b"*" or tag in _ENTITY_TAG.findall(if_none_match)


def accepts_gzip(accept_encoding: bytes) -> bool:
    """Tell whether gzip may be sent (RFC 9110 section 12.5.3). A weight that is malformed counts as a no."""
    weights = {}
    for item in accept_encoding.lower().split(b","):
        name, *parameters = (part.strip() for part in item.split(b";"))
        weights[name] = all(
            re.fullmatch(rb"q=(?:1(?:\.0{0,3})?|0\.(?=0{0,2}[1-9])[0-9]{1,3})", part) for part in parameters
        )
    return weights.get(b"gzip", weights.get(b"*", False))


def inline_policy(html: bytes, *directives: str) -> tuple[str, str]:
    """Return the Content-Security-Policy header field that allows only the page's own inline scripts and styles, and
    what `directives` allow."""
    hashes: dict[bytes, list[str]] = {b"script": [], b"style": []}
    for kind, source in _INLINE.findall(html):
        hashes[kind].append(f"'sha256-{b64encode(sha256(source).digest()).decode()}'")
    sources = [f"{kind.decode()}-src {' '.join(found)}" for kind, found in hashes.items() if found]
    fixed_directives = ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'")
    return "Content-Security-Policy", "; ".join(["default-src 'none'", *sources, *directives, *fixed_directives])

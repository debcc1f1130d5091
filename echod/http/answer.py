"""An HTTP answer as bytes: the one place that writes a status line, header fields and a body.

Refusals (`refusals.py`) and the pages of the WebSocket port (`web/pages.py`) are written here. Pure. Must never know
what an answer says, nor choose a field: the caller names the fields in their order.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""The reason phrase of each registered status. Any other status gets none, which RFC 9112 section 4 allows."""


def write(status: int, fields: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Return the bytes of an HTTP/1.1 answer. The caller leaves `body` empty for HEAD and for a 304."""
    lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, '')}", *(f"{name}: {value}" for name, value in fields), "", ""]
    return "\r\n".join(lines).encode() + body

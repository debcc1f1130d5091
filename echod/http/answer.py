"""An HTTP answer as a value, and as bytes of HTTP/1.1: the one place that writes a status line and header fields.

Refusals (`refusals.py`) and the pages of the WebSocket port (`web/pages.py`) are written here. Pure. Must never know
what an answer says, nor choose a field: the caller names the fields in their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
"""The reason phrase of each registered status. Any other status gets none, which RFC 9112 section 4 allows."""


class Answer(NamedTuple):
    """An answer. `body` is empty for HEAD and for a 304."""

    status: int
    fields: Sequence[tuple[str, str]]
    """The header fields for HTTP/1.1."""
    body: bytes = b""

    @property
    def octets(self) -> bytes:
        """The bytes of the answer over HTTP/1.1."""
        fields = (f"{name}: {value}" for name, value in self.fields)
        lines = [f"HTTP/1.1 {self.status} {_PHRASES.get(self.status, '')}", *fields, "", ""]
        return "\r\n".join(lines).encode() + self.body

"""The paths that mean something, and the path and query of a request target.

Pure. Knows URLs. Must never know what a path does.
"""

from __future__ import annotations

from urllib.parse import urlsplit

JSON_PATH = "/json"
INFO_PATH = "/info"
FRAMES_PATH = "/frames"
HEALTH_PATH = "/healthz"
AUTHORITY_PATH = "/authority.pem"

FOR_PROGRAMS = (HEALTH_PATH, AUTHORITY_PATH)
"""Paths of plain HTTP that are answered even without the console."""

ONLY_WEBSOCKET = (JSON_PATH, INFO_PATH, FRAMES_PATH)
"""Paths that only a WebSocket client can use. A request for one of them without an upgrade is refused and told so."""


def split(target: bytes) -> tuple[str, str] | None:
    """Return the path and the query of a request target.

    The form that CONNECT uses gives None, and so does anything that is no request target (RFC 9112 section 3.2).
    """
    try:
        text = target.decode()
        if text.startswith("/"):
            # All of it is path and query (RFC 9112 section 3.2.1): urlsplit would take what follows `//` for a host.
            path, _, query = text.partition("?")
            return path, query
        url = urlsplit(text)
    except ValueError:
        return None
    # Only absolute-form and `*` are left.
    if text != "*" and not (url.scheme and url.netloc):
        return None
    return url.path, url.query

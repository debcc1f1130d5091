"""A WebSocket URL taken apart (RFC 6455 section 3): host, port, resource name, and whether it is secure. Also host and
port written as in a URL.

Pure: text in, a value out. Must never resolve a name or open a connection.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

# Letters, digits and hyphens (RFC 1123 section 2.1), and the underscore, which names of containers may have.
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")

MAX_HOST_SIZE = 253
"""Characters of the longest name (RFC 1035 section 2.3.4, without the lengths that the wire format adds)."""

# Characters that need no escape in a path or query (RFC 3986 sections 3.3 and 3.4). Browsers don't escape square
# brackets either.
_RESOURCE_CHARACTERS = "/?%:@!$&'()*+,;=-._~[]"

_DEFAULT_PORTS = {"ws": 80, "wss": 443}


@dataclass(frozen=True, slots=True)
class Target:
    """What a WebSocket URL points to."""

    url: str
    is_secure: bool
    host: str
    """ASCII. An IPv6 address has no brackets here."""
    port: int
    resource: str
    """The resource name (section 3): path and query."""

    @property
    def is_address(self) -> bool:
        """Whether the host is an IP address and not a name."""
        return _address(self.host) is not None

    @property
    def host_field(self) -> str:
        """The value of the Host field. It has a port only if the port is not the default (RFC 6455 section 4.1, item 4
        of the requirements)."""
        is_default = self.port == _DEFAULT_PORTS["wss" if self.is_secure else "ws"]
        return bracket(self.host) if is_default else join(self.host, self.port)


def bracket(host: str) -> str:
    """Return a host as it is written in a URL: an IPv6 address in brackets (RFC 3986 section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def join(host: str, port: int) -> str:
    """Return host and port as they are written in a URL."""
    return f"{bracket(host)}:{port}"


def parse(url: str) -> Target:
    """Take a `ws:` or `wss:` URL apart. Raises `ValueError` with the rest of a sentence that begins with the URL."""
    # urlsplit silently drops tabs and line ends.
    if any(char.isspace() or not char.isprintable() for char in url):
        raise ValueError("has a space or a control character in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error}") from error
    if parts.scheme not in _DEFAULT_PORTS or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError("is not a WebSocket URL: it must begin with ws:// or wss://")
    if "@" in parts.netloc:
        raise ValueError(
            "has user information in it, which a WebSocket URL must not have (RFC 6455 section 3); use --header"
        )
    if "#" in url:
        raise ValueError("has a fragment, which a WebSocket URL must not have (RFC 6455 section 3)")
    if port == 0:
        raise ValueError("has port 0")
    resource = quote((parts.path or "/") + ("?" + parts.query if "?" in url else ""), safe=_RESOURCE_CHARACTERS)
    return Target(
        url, parts.scheme == "wss", _parse_host(parts.hostname or ""), port or _DEFAULT_PORTS[parts.scheme], resource
    )


def _parse_host(host: str) -> str:
    if (address := _address(host)) is not None:
        if "%" in host:
            raise ValueError("has a zone in its IPv6 address, which means nothing to other machines")
        return str(address)
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode()
        except UnicodeError as error:
            raise ValueError(f"has no valid host: {error}") from error
    labels = host.removesuffix(".").split(".")
    if len(host) > MAX_HOST_SIZE or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("has no valid host")
    return host


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

"""Endpoint strings: the value of `--port` or `--admin` becomes an endpoint that can listen.

The syntax is Twisted's. This module adds `ssl:` and `tls:` endpoints with reloadable certificates, `throwaway:`
endpoints with one that is made at start, `haproxy:` endpoints that accept a PROXY header in pieces, and an error
message in an operator's words. It knows endpoint strings. It must never know which option a string came from.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any, cast

from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint

from echod.net import proxy_header
from echod.net.tls import endpoint as tls_endpoint
from echod.net.tls.pem import FileFault
from echod.net.tls.throwaway import Authority
from echod.upstream import endpoints


def parse_endpoint(
    reactor: Any, text: str, descriptor: int | None = None, authority: Authority | None = None
) -> IStreamServerEndpoint:
    """Return the server endpoint that `text` describes.

    `authority` issues the certificates of `throwaway:` endpoints; without it, each has one of its own.
    A worker passes `descriptor`, a listening socket that its parent made: the endpoint then uses that socket. Raises
    `FileFault` for a file that can't be used, and another `ValueError` for a mistake in the text.
    """
    below = text.removeprefix(proxy_header.PREFIX)
    try:
        secure = tls_endpoint.parse(below, authority)
        if descriptor is not None:
            endpoint = endpoints.adopt(reactor, descriptor)
        else:
            endpoint = cast(IStreamServerEndpoint, serverFromString(reactor, secure[1] if secure else below))
            endpoints.check_port(endpoint)
    except FileFault:
        raise
    except Exception as error:  # the parser may be a plugin's, and may raise anything, even a TypeError
        if below.startswith("systemd:") and isinstance(error, LookupError):
            error = ValueError("systemd passed no such socket")
        prefix = text.removesuffix(below)
        raise ValueError(
            f"is not a server endpoint: {_meant_endpoint(prefix, below) or _endpoint_fault(below, error)}"
        ) from error
    endpoints.leave_path(endpoint)
    endpoints.take_path(endpoint)
    endpoints.serve_both_families(endpoint)
    if below != text:
        # Below TLS: a proxy sends the header in the clear, before the client's TLS hello.
        endpoint = proxy_header.wrap(endpoint)
    return tls_endpoint.Endpoint(secure[0], endpoint, reactor) if secure else endpoint


def _endpoint_fault(text: str, error: Exception) -> str:
    """Return what an endpoint parser raised for `text`, in an operator's words."""
    words = " ".join(str(error).split())
    if isinstance(error, IndexError):
        return "it has no type, such as tcp:"
    if (number := re.fullmatch(r"invalid literal for int\(\) with base (8|10): (.*)", words)) is not None:
        return f"{number[2]} is not {'an octal' if number[1] == '8' else 'a'} number"
    # For an unknown, missing or superfluous argument the message names the Python function that takes the arguments.
    kind, _, _ = text.partition(":")
    return re.sub(r"^_parse\w*\(\)", f"{kind}:", words) or type(error).__name__


def _meant_endpoint(prefix: str, text: str) -> str:
    """Return the endpoint string to write, behind `prefix`, if `text` is a bare port or an address with a port; else
    an empty string."""
    match = re.fullmatch(r"(?:\[?([^\]]*)\]?:)?([0-9]{1,5})", text)
    if match is None:
        return ""
    host, endpoint = match[1], f"{prefix}tcp:{match[2]}"
    if not host or host == "*":
        return f"a port is {endpoint}"
    if host != "localhost":
        try:
            host = str(ip_address(host))
        except ValueError:
            return ""
    return f"this address and port are {endpoint}:interface={quoteStringArgument(host)}"

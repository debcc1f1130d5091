"""What `/info` says of a connection: one JSON text, made once, before anything is echoed.

Knows what is told, and under what name. Must never know how a message is sent: it gets a request and `Facts`, and returns octets.

What a browser sends of its own accord and hides from scripts stays hidden: else any page could open a connection here and read
the user's cookies, for the opening handshake knows no same-origin policy (RFC 6455 section 10.2).
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from twisted.internet.interfaces import ISSLTransport

from echod import __version__
from echod.compression import Terms
from echod.faults import Faults
from echod.handshake import Request
from echod.settings import Compression, Settings

_SECRET = frozenset({b"cookie", b"authorization", b"proxy-authorization"})

LIMITS = (
    *("max_message_size", "max_buffered", "max_fragments", "max_connections_per_address", "compression", "ping_interval", "ping_timeout"),
    *("handshake_timeout", "close_timeout", "drain_timeout", "max_delay", "max_delayed", "max_handshake_delay", "min_ping", "max_ping"),
    *("max_after", "max_stall"),
)
"""The settings that are told: those that a client may run into."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a connection beside its request."""

    address: str | None
    """The client's, from the PROXY header or the trusted part of `X-Forwarded-For` if there is one; None over a Unix socket."""
    port: int | None
    """The client's; None also where only the address is known."""
    subprotocol: str | None
    extensions: Sequence[str]
    """Their names."""
    terms: Terms | None
    """Of permessage-deflate; None without it."""
    tls: dict[str, str | None] | None
    """`version`, `cipher` and `sni`; None without TLS."""
    lane: str
    """Who serves ordinary messages."""
    settings: Settings
    faults: Faults
    seed: int | None
    """What the choice of lost messages depends on."""


def describe(request: Request, facts: Facts) -> bytes:
    """Return what there is to tell, as JSON in UTF-8."""
    settings = facts.settings
    limits = {name: getattr(settings, name) for name in LIMITS} | {"max_message_size": settings.message_limit}
    told = {
        "peer": {"address": facts.address, "port": facts.port},
        "path": request.path,
        "query": request.query,
        "headers": [[name.decode(), _header(name, value)] for name, value in request.lines],
        "subprotocol": facts.subprotocol,
        "extensions": facts.extensions,
        "compression": describe_compression(facts.terms),
        "tls": facts.tls,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "version": __version__,
        "lane": facts.lane,
        "limits": limits,
        "faults": {"are_on": settings.has_faults, **_faults(facts)},
    }
    return json.dumps(told, ensure_ascii=False).encode()


def describe_compression(terms: Terms | None) -> dict[str, str | int | bool]:
    """Return what was agreed on: the windows in powers of two, and who may refer to earlier messages (RFC 7692 section 7.1)."""
    if terms is None:
        return {"mode": Compression.OFF}
    agreed = asdict(terms)
    del agreed["can_mirror"]
    return {"mode": terms.name, **agreed}


def describe_tls(layers: Sequence[Any]) -> dict[str, str | None] | None:
    """Return what TLS has agreed on, of the first of a connection's transports that speaks it."""
    for layer in layers:
        if ISSLTransport.providedBy(layer):
            handle = cast(Any, layer).getHandle()
            name = handle.get_servername()
            return {
                "version": handle.get_protocol_version_name(),
                "cipher": handle.get_cipher_name(),
                "sni": name and name.decode("ascii", "backslashreplace"),
            }
    return None


def _header(name: bytes, value: bytes) -> str:
    value = value.strip(b" \t")
    return f"({len(value)} octets, not shown)" if name.lower() in _SECRET else value.decode(errors="backslashreplace")


def _faults(facts: Facts) -> dict[str, Any]:
    asked = facts.faults
    told = {name: getattr(asked, name.replace("-", "_")) for name in asked.names}
    return told | ({"seed": facts.seed} if asked.drop else {})

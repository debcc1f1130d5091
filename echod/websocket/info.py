"""The one message of `/info`: JSON that describes the connection, sent before anything is echoed.

Knows what is shown, and under what name. Must never know how a message is sent: it turns a request and `Facts` into
bytes.

Any page may open a connection here and read the answer, because the opening handshake has no same-origin policy (RFC
6455 section 10.2). So the page must not learn what the browser sends and hides from scripts, such as the user's
cookies, nor what an authenticating proxy adds, such as the user's name or an access token. Nobody knows the names of
all such fields, so only the values of the fields in `SHOWN` are shown.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from echod import __version__
from echod.core.counts import ServedBy
from echod.faults.query import Faults
from echod.faults.table import CAPS
from echod.http.extensions import Terms
from echod.http.request import Request
from echod.settings import Compression, Settings

SHOWN = frozenset(
    (
        # The request itself, and the opening handshake.
        *(
            b"host",
            b"origin",
            b"user-agent",
            b"connection",
            b"upgrade",
            b"keep-alive",
            b"proxy-connection",
            b"te",
            b"content-length",
        ),
        *(b"sec-websocket-key", b"sec-websocket-version", b"sec-websocket-protocol", b"sec-websocket-extensions"),
        # What clients say about themselves, and what they ask for.
        *(
            b"accept",
            b"accept-charset",
            b"accept-encoding",
            b"accept-language",
            b"cache-control",
            b"pragma",
            b"priority",
        ),
        *(
            b"sec-fetch-dest",
            b"sec-fetch-mode",
            b"sec-fetch-site",
            b"sec-fetch-storage-access",
            b"sec-fetch-user",
            b"sec-gpc",
            b"dnt",
        ),
        *(b"sec-ch-ua", b"sec-ch-ua-mobile", b"sec-ch-ua-platform"),
        # What proxies say about the way: whom they serve, and under what name.
        *(
            b"via",
            b"forwarded",
            b"x-forwarded-for",
            b"x-forwarded-by",
            b"x-forwarded-host",
            b"x-forwarded-port",
            b"x-forwarded-prefix",
        ),
        *(
            b"x-forwarded-proto",
            b"x-forwarded-protocol",
            b"x-forwarded-scheme",
            b"x-forwarded-server",
            b"x-forwarded-ssl",
            b"x-scheme",
        ),
        *(
            b"x-real-ip",
            b"x-client-ip",
            b"x-cluster-client-ip",
            b"x-original-forwarded-for",
            b"true-client-ip",
            b"fastly-client-ip",
        ),
        *(
            b"cf-connecting-ip",
            b"cf-ipcountry",
            b"cf-ray",
            b"cf-visitor",
            b"cdn-loop",
            b"x-envoy-external-address",
            b"front-end-https",
        ),
        # Marks by which a request can be found in logs.
        *(
            b"traceparent",
            b"x-request-id",
            b"x-correlation-id",
            b"x-amzn-trace-id",
            b"x-cloud-trace-context",
            b"x-request-start",
        ),
        *(b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"),
    )
)
"""The header fields, in lower case, whose values are shown. Whoever tests clients and proxies needs them, and they hold
no secret."""

LIMITS = (
    *(
        "max_message_size",
        "max_buffered",
        "max_fragments",
        "max_connections_per_address",
        "max_request_head",
        "compression",
    ),
    *("http2", "max_streams", "http2_idle"),
    *("ping_interval", "ping_timeout", "handshake_timeout", "close_timeout", "max_close_time", "drain_timeout"),
    *(cap for cap in CAPS if cap != "max_message_size"),
    "max_delayed",
)
"""The settings that are shown: the limits that a client can meet."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What `/info` tells in addition to the request."""

    number: str
    """The connection's number."""
    address: str | None
    """The client's IP address, from the PROXY header or the trusted part of `X-Forwarded-For` if there is one; None
    over a Unix socket."""
    port: int | None
    """The client's port; None also if only the address is known."""
    subprotocol: str | None
    extensions: Sequence[str]
    """The names of the extensions in use."""
    terms: Terms | None
    """What was agreed on for permessage-deflate; None without it."""
    tls: dict[str, str | None] | None
    """`version`, `cipher` and `sni`; None without TLS."""
    http: dict[str, Any]
    """`version`; over HTTP/2 also `stream`, its number, and `settings`, which the client has sent."""
    lane: ServedBy
    """What serves ordinary messages."""
    settings: Settings
    faults: Faults
    seed: int | None
    """The choice of lost messages depends on it; None without faults."""


def describe(request: Request, facts: Facts) -> bytes:
    """Return the message, as JSON in UTF-8."""
    settings = facts.settings
    limits = {name: getattr(settings, name) for name in LIMITS} | {"max_message_size": settings.message_limit}
    told = {
        "number": facts.number,
        "peer": {"address": facts.address, "port": facts.port},
        "path": request.path,
        "query": request.query,
        "headers": [[name.decode(), show_field(name, value.strip(b" \t"))] for name, value in request.lines],
        "subprotocol": facts.subprotocol,
        "extensions": facts.extensions,
        "compression": describe_compression(facts.terms),
        "http": facts.http,
        "tls": facts.tls,
        "host": socket.gethostname(),
        "process": os.getpid(),
        "version": __version__,
        "lane": facts.lane,
        "limits": limits,
        "faults": {"are_on": settings.has_faults, **_faults(facts)},
    }
    return json.dumps(told, ensure_ascii=False, default=bytes.hex).encode()


def describe_compression(terms: Terms | None) -> dict[str, str | int | bool]:
    """Return what was agreed on: the sizes of the windows as powers of two, and which end may refer to earlier messages
    (RFC 7692 section 7.1)."""
    if terms is None:
        return {"mode": Compression.OFF}
    agreed = asdict(terms) | {"server_window_bits": terms.answer_window_bits}
    del agreed["can_mirror"]
    return {"mode": terms.name, **agreed}


def describe_tls(connection: Any) -> dict[str, str | None] | None:
    """Return what TLS has agreed on. `connection` is OpenSSL's, or None without TLS."""
    if connection is None:
        return None
    name = connection.get_servername()
    return {
        "version": connection.get_protocol_version_name(),
        "cipher": connection.get_cipher_name(),
        "sni": name and name.decode("ascii", "backslashreplace"),
    }


def show_field(name: bytes, value: bytes, cut: int | None = None) -> str:
    """Return what is shown of a header field: the first `cut` bytes of its value, or only its length if it may be a
    secret."""
    if name.lower() not in SHOWN:
        return f"({len(value)} octets, not shown)"
    return value[:cut].decode(errors="backslashreplace") + ("…" if len(value[:cut]) < len(value) else "")


def _faults(facts: Facts) -> dict[str, Any]:
    asked = facts.faults
    told = {name: getattr(asked, name.replace("-", "_")) for name in asked.names}
    return told | ({"seed": facts.seed} if asked.drop or asked.mutate else {})

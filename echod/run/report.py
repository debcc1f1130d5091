"""The start report: the lines of the log that say where the daemon listens, how it serves, and which limits hold.

Knows what an operator wants to read at a start. Must never know how any of it came about.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from echod import __version__
from echod.core.log import SERVICE, UNLIMITED
from echod.core.quantities import format_duration, format_size
from echod.http import ws_url
from echod.lane.native import Native, zlib_functions
from echod.net.tls.reload import Certificates
from echod.settings import Compression, Settings
from echod.upstream import endpoints, names
from echod.websocket.factory import EchoFactory

_log = Logger(namespace=SERVICE)


def log_addresses(ports: Iterable[IListeningPort], admin_ports: Iterable[IListeningPort]) -> None:
    """Log where the daemon and its admin site listen."""
    for port in ports:
        _log.info("listening on {address}", address=describe_port(port, "ws"), **{UNLIMITED: True})
    for port in admin_ports:
        _log.info("admin on {address}", address=describe_port(port, "http"), **{UNLIMITED: True})


def log_certificate_faults(text: str, certificates: Certificates) -> None:
    """Log which certificates of the endpoint `text` clients refuse now, and why."""
    for identity in certificates.used:
        if (fault := identity.fault) is not None:
            _log.warn(
                "{endpoint}: the certificate for {certificate} {fault}",
                endpoint=text,
                certificate=identity,
                fault=fault,
            )


def log_lane(native: Native | None, factory: EchoFactory) -> None:
    """Log how ordinary frames are served, and what a faster way lacks in the installed libraries."""
    _log.info("express lane: {lane}", lane=describe_lane(native, factory), **{UNLIMITED: True})
    for loss in names.losses():
        _log.warn("{loss}", loss=loss, **{UNLIMITED: True})


def log_limits(settings: Settings, max_connections: int, scope: str = "") -> None:
    """Log the limits, and their scope if that is not the whole daemon; this is the last line of a start."""
    limits = describe_limits(settings, max_connections) + scope
    _log.info("echod {version}: {limits}", version=__version__, limits=limits, **{UNLIMITED: True})


def describe_port(port: IListeningPort, scheme: str) -> str:
    """Return where `port` listens."""
    address = describe_address(port.getHost(), has_tls(port), scheme)
    return f"{address} (IPv6 and IPv4)" if endpoints.serves_both_families(port) else address


def describe_address(address: Any, is_tls: bool = False, scheme: str = "ws") -> str:
    """Return a listening address as a URL for a client, or else as the address says itself; TLS adds an `s` to the
    scheme."""
    if (name := getattr(address, "name", None)) is not None:
        return f"unix:{name.decode(errors='backslashreplace') if isinstance(name, bytes) else name}"
    if not hasattr(address, "host"):
        return str(address)
    return f"{scheme}{'s' if is_tls else ''}://{ws_url.join(address.host, address.port)}"


def has_tls(port: IListeningPort) -> bool:
    """Tell whether clients of `port` use TLS."""
    factory = getattr(port, "factory", None)
    while isinstance(factory, WrappingFactory) and not isinstance(factory, TLSMemoryBIOFactory):
        factory = factory.wrappedFactory  # TLS is behind the PROXY header
    return isinstance(factory, TLSMemoryBIOFactory)


def describe_lane(native: Native | None, factory: EchoFactory) -> str:
    """Return how ordinary frames are served."""
    if native is None:
        return "off, Autobahn serves everything"
    if factory.lane is None:
        return f"codec alone ({native.isa})"
    lacks = [] if factory.lane.takes_tls else [", TLS by the codec alone"]
    if factory.settings.compression is not Compression.OFF and not factory.lane.takes_deflate:
        lacks.append(f", permessage-deflate by Autobahn (no {zlib_functions.LIBRARY}: apt-get install zlib1g)")
    if factory.wants_each:
        lacks.append(f", connections begin in Python because of {' and '.join(factory.wants_each)}")
    return f"pump and codec ({native.isa})" + "".join(lacks)


def describe_limits(settings: Settings, max_connections: int) -> str:
    """Return the limits in force, on one line."""
    sizes = (
        ("max-message-size", settings.message_limit),
        ("max-buffered", settings.max_buffered),
        ("max-request-head", settings.max_request_head),
    )
    durations = (
        ("handshake-timeout", settings.handshake_timeout),
        ("ping-interval", settings.ping_interval),
        ("ping-timeout", settings.ping_timeout),
        ("close-timeout", settings.close_timeout),
        ("max-close-time", settings.max_close_time),
        ("drain-timeout", settings.drain_timeout),
    )
    return ", ".join(
        [
            *(f"{name} {format_size(value)}" for name, value in sizes),
            f"max-connections {max_connections}",
            f"max-connections-per-address {settings.max_connections_per_address or 'none'}",
            f"compression {settings.compression.value}",
            *(f"{name} {format_duration(value)}" for name, value in durations),
        ]
    )

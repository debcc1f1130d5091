"""The start report: the lines of the log that say where the daemon listens, how it serves, and which limits hold.

Knows what an operator wants to read at a start. Must never know how any of it came about.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.protocols.policies import WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory

from echod import __version__
from echod.core.log import SERVICE, UNLIMITED
from echod.core.quantities import format_duration, format_size
from echod.http import ws_url
from echod.http.paths import AUTHORITY_PATH
from echod.lane.native import Native, zlib_functions
from echod.net.tls.identity import Identity
from echod.net.tls.reload import Certificates
from echod.net.tls.throwaway import Throwaway
from echod.settings import Compression, Http2Mode, Settings
from echod.upstream import endpoints, names
from echod.websocket.factory import EchoFactory

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""The address of this machine in place of the one that stands for every interface."""

_log = Logger(namespace=SERVICE)


def log_addresses(ports: Iterable[IListeningPort], admin_ports: Iterable[IListeningPort]) -> None:
    """Log where the daemon and its admin site listen."""
    for port in ports:
        _log.info("listening on {address}", address=describe_port(port, "ws"), **{UNLIMITED: True})
    for port in admin_ports:
        _log.info("admin on {address}", address=describe_port(port, "http"), **{UNLIMITED: True})


def certificate_faults(certificates: Certificates) -> Iterator[tuple[Identity, str]]:
    """Return the certificates that clients refuse now, each with the reason."""
    return ((identity, fault) for identity in certificates.used if (fault := identity.fault) is not None)


def log_certificate_faults(text: str, certificates: Certificates) -> None:
    """Log which certificates of the endpoint `text` clients refuse now, and why."""
    for identity, fault in certificate_faults(certificates):
        _log.warn(
            "{endpoint}: the certificate for {certificate} {fault}",
            endpoint=text,
            certificate=identity,
            fault=fault,
        )


def log_throwaway(text: str, throwaway: Throwaway, authority_file: str | None) -> None:
    """Log the names in the certificate of the endpoint `text`, and what to do about it or what is wrong with it."""
    names = ", ".join(throwaway.names)
    what = f"trust {authority_file or AUTHORITY_PATH}" if throwaway.fault is None else f"fault: {throwaway.fault}"
    told = {"endpoint": text, "names": names, "what": what}
    _log.info("{endpoint} has a throwaway certificate for {names}; {what}", **told, **{UNLIMITED: True})


def log_lane(native: Native | None, factory: EchoFactory) -> None:
    """Log how ordinary frames are served, and what a faster way lacks in the installed libraries."""
    _log.info("express lane: {lane}", lane=describe_lane(native, factory), **{UNLIMITED: True})
    for loss in names.losses():
        _log.warn("{loss}", loss=loss, **{UNLIMITED: True})


def log_limits(settings: Settings, max_connections: int, scope: str = "") -> None:
    """Log the limits, and their scope if that is not the whole daemon; this is the last line of a start."""
    limits = describe_limits(settings, max_connections) + scope
    _log.info("echod {version}: {limits}", version=__version__, limits=limits, **{UNLIMITED: True})


def describe_start(
    ports: Iterable[IListeningPort], admin_ports: Iterable[IListeningPort], authority: str, http2: Http2Mode
) -> dict[str, object]:
    """Return what a program wants to know that waits for the daemon, as values for JSON.

    `authority` is the certificate of the authority of `throwaway:` endpoints, as PEM; it is empty if there are none.
    """
    return {
        "urls": [describe_for_client(port, "ws") for port in ports],
        "admin_urls": [describe_for_client(port, "http") for port in admin_ports],
        "authority": authority or None,
        "http2": http2.value,
        "pid": os.getpid(),
        "version": __version__,
    }


def describe_for_client(port: IListeningPort, scheme: str) -> str:
    """Return where a client on this machine finds `port`: every interface includes loopback."""
    address: Any = port.getHost()
    if endpoints.serves_both_families(port):
        address = IPv4Address("TCP", "localhost", address.port)
    elif (host := _LOOPBACK.get(getattr(address, "host", ""))) is not None:
        address = IPv4Address("TCP", host, address.port)
    return describe_address(address, has_tls(port), scheme)


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
        which = "stay" if factory.settings.tells_each_message else "begin"
        lacks.append(f", connections {which} in Python because of {' and '.join(factory.wants_each)}")
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
        ("http2-idle", settings.http2_idle),
    )
    return ", ".join(
        [
            *(f"{name} {format_size(value)}" for name, value in sizes),
            f"max-connections {max_connections}",
            f"max-connections-per-address {settings.max_connections_per_address or 'none'}",
            f"compression {settings.compression.value}",
            f"http2 {settings.http2.value}",
            f"max-streams {settings.max_streams}",
            *(f"{name} {format_duration(value)}" for name, value in durations),
        ]
    )

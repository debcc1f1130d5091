"""`haproxy:` endpoints: each connection begins with a PROXY header, which may come in pieces and is checked.

Twisted's own wrapper looks only at the first read (twisted/protocols/haproxy/_wrapper.py), and drops a connection whose
first read is shorter than the signature. In a version 1 header it accepts any text as an address, and as a port
whatever Python accepts as a number. It writes an IPv6 address of version 2 at full length, so that one client has two
names. That wrapper stays. This file adds a wrapper below it, which holds the header until it is complete, checks it,
and passes it on.

Knows the header (https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt). Must never know what follows the header.
"""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.protocols.haproxy import proxyEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

PREFIX = "haproxy:"

V1_SIZE = 107
"""Maximum size of a version 1 header in bytes, with its CRLF (section 2.1)."""

V2_SIZE = 4096
"""Maximum size of a version 2 header in bytes; its length field allows 65,551. nginx has the same limit
(NGX_PROXY_PROTOCOL_MAX_HEADER). The addresses take at most 232 bytes, and what proxies and clouds add takes some
hundreds. An incomplete header is held, and is not counted in any account."""

_V1 = b"PROXY "
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = struct.Struct("!12sBBH")
"""The fixed part of a version 2 header: signature, version with command, family with transport, and the number of bytes
that follow (section 2.2)."""
_V2_ADDRESSES = struct.Struct("!16s16s2H")
"""The addresses and ports of IPv6, which follow the fixed part."""
_LOCAL, _PROXY = 0x20, 0x21
_UNIX, _DATAGRAM = 3, 2
_OVER_INET6 = (0x21, 0x22)
_V2_SIZES = {0x11: 12, 0x12: 12, 0x21: _V2_ADDRESSES.size, 0x22: _V2_ADDRESSES.size, 0x31: 216, 0x32: 216}
"""Size of the addresses in bytes, by family and transport; if either is unspecified, there may be no addresses."""

# A port has no leading zeros (section 2.1). An address has no zone, and Python would accept any text as one.
_PORT = rb"(0|[1-9][0-9]{0,4})"
_V1_LINE = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]+) ([0-9.]+)|TCP6 ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+)) " + _PORT + b" " + _PORT + rb"\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)
_UNKNOWN = b"PROXY UNKNOWN \r\n"
"""A header without addresses, in the form that Twisted accepts: Twisted requires a space after the word."""


def split(octets: bytes) -> tuple[bytes, bytes] | None:
    """Return the header at the start of `octets`, in the form for Twisted, and what follows it.

    Returns None if the header is incomplete. Raises `ValueError` if there is no valid header.
    """
    if octets.startswith(_V1):
        return _split_v1(octets)
    if octets.startswith(_V2):
        return _split_v2(octets)
    if _V1.startswith(octets) or _V2.startswith(octets):
        return None
    raise ValueError("there is none")


def _split_v1(octets: bytes) -> tuple[bytes, bytes] | None:
    end = octets.find(b"\r\n", 0, V1_SIZE)
    if end >= 0:
        return _check_v1(octets[: end + 2]), octets[end + 2 :]
    if len(octets) >= V1_SIZE:
        raise ValueError(f"it is longer than {V1_SIZE} bytes")
    return None


def _split_v2(octets: bytes) -> tuple[bytes, bytes] | None:
    if len(octets) < _V2_FIXED.size:
        return None
    size = _V2_FIXED.size + _V2_FIXED.unpack_from(octets)[3]
    if size > V2_SIZE:
        raise ValueError(f"it is longer than {V2_SIZE} bytes")
    return (_rewrite_v2(octets[:size]), octets[size:]) if len(octets) >= size else None


def _check_v1(header: bytes) -> bytes:
    if _V1_UNKNOWN.fullmatch(header):
        return _UNKNOWN
    found = _V1_LINE.fullmatch(header)
    if found is None:
        raise ValueError("it is not a header of version 1")
    source4, destination4, source6, destination6, *ports = (word and word.decode() for word in found.groups())
    if max(map(int, ports)) > 0xFFFF:
        raise ValueError("a port is more than 65535")
    if source4:
        return _make_v1("TCP4", IPv4Address(source4), IPv4Address(destination4), *ports)
    return _make_v1("TCP6", IPv6Address(source6), IPv6Address(destination6), *ports)


def _rewrite_v2(header: bytes) -> bytes:
    """Return the header; one for IPv6 becomes a header of version 1, which writes addresses as RFC 5952 does."""
    _, command, family, size = _V2_FIXED.unpack_from(header)
    if command not in (_LOCAL, _PROXY):
        raise ValueError("it is not a header of version 2")
    if command == _LOCAL:
        return header
    if family >> 4 > _UNIX or family & 0xF > _DATAGRAM or size < _V2_SIZES.get(family, 0):
        raise ValueError("its addresses are not those of version 2")
    if family not in _OVER_INET6:
        return header
    source, destination, *ports = _V2_ADDRESSES.unpack_from(header, _V2_FIXED.size)
    return _make_v1("TCP6", IPv6Address(source), IPv6Address(destination), *ports)


def _make_v1(*words: object) -> bytes:
    return " ".join(map(str, ("PROXY", *words))).encode() + b"\r\n"


@implementer(IHalfCloseableProtocol)
class Holder(ProtocolWrapper):
    """Holds the first bytes of a connection until the header is complete."""

    _held: bytes | None = b""
    header_fault: str | None = None
    """Why the connection is closed: what is wrong with the header, perhaps in the peer's words. The protocol above
    looks for it, because TLS between them reports a reason of its own."""

    def dataReceived(self, data: bytes) -> None:
        """Hold bytes until the header is complete; then pass on the header and everything after it."""
        if self.header_fault is not None:
            return
        if self._held is not None:
            self._held += data
            try:
                found = split(self._held)
            except ValueError as error:
                self.header_fault = str(error)
                self.loseConnection()
                return
            if found is None:
                return
            self._held = None
            data = b"".join(found)
        super().dataReceived(data)

    def readConnectionLost(self) -> None:
        """Pass on that the peer sends no more, past Twisted's wrapper, which ignores it; TLS has no half-close."""
        behind = cast(Any, self.wrappedProtocol).wrappedProtocol
        # Ask the class: a wrapper of Twisted claims every interface of its transport, and this holder is the transport.
        if IHalfCloseableProtocol.implementedBy(type(behind)):
            behind.readConnectionLost()
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: no protocol above needs to know."""


class _HolderFactory(WrappingFactory):
    protocol = Holder


@implementer(IStreamServerEndpoint)
class _HoldingEndpoint:
    def __init__(self, endpoint: IStreamServerEndpoint) -> None:
        self._endpoint = endpoint

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self._endpoint.listen(_HolderFactory(protocolFactory))


def wrap(endpoint: IStreamServerEndpoint) -> IStreamServerEndpoint:
    """Return an endpoint whose connections begin with a PROXY header, and have the peer that the header names."""
    return cast(IStreamServerEndpoint, proxyEndpoint(_HoldingEndpoint(endpoint)))

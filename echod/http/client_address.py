"""The client's IP address: whom to believe about it, and how it is written and counted.

Pure. Must never ask a socket: the caller passes the peer's address.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, IPv6Network, ip_address

from echod.http.request import Fields, members

# An address, perhaps with a port (Azure's gateways add one). With a port, an IPv6 address is in brackets, as in a URL.
# No zone (`fe80::1%eth0`): it means nothing on another machine (RFC 4007 section 6), and Python takes any text of any
# length for one.
_HOP = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")


def client_address(fields: Fields, peer: str | None, trusted_hops: int) -> str | None:
    """Return the client's IP address: `peer`, or what the trusted proxies in front say in `X-Forwarded-For`.

    Each proxy appends the address that called it, so the client's address is the `trusted_hops`-th from the end. The
    client may have made up what comes before. A member that is no address is not believed. `peer` is None over a Unix
    socket, which has no address.
    """
    hops = members(fields, b"x-forwarded-for") if trusted_hops else []
    if not hops:
        return peer
    hop = _HOP.fullmatch(hops[-min(trusted_hops, len(hops))].decode("latin-1"))
    if hop is None:
        return peer
    try:
        return plain_address(str(IPv6Address(hop[2]) if hop[2] else ip_address(hop[1] or hop[3])))
    except ValueError:
        return peer


def plain_address(address: str) -> str:
    """Return an IPv4 address in its own form if it is written as an IPv6 address (RFC 4291 section 2.5.5.2). A socket
    for both families writes it so. Any other address is returned as it is.

    So one client has one name, whichever endpoint it connects to.
    """
    if not address.startswith("::ffff:"):
        return address
    if ":" not in (dotted := address.removeprefix("::ffff:")):  # as the kernel writes it
        return dotted
    return str(IPv6Address(address).ipv4_mapped or address)


def place_of(address: str) -> str:
    """Return the key under which a client's connections are counted: an IPv4 address, or the /64 network of an IPv6
    address.

    A host or a home gets at least such a network (RFC 6177 section 2), and may use any address in it (RFC 8981).
    """
    if ":" not in address:
        return address
    return str(IPv6Network((address.partition("%")[0], 64), strict=False))

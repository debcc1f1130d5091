"""`ssl:`, `tls:` and `throwaway:` endpoints: TLS over a `tcp:` endpoint.

The syntax of the first two is Twisted's, and so is the meaning of the files in a folder. Twisted's own endpoints never
read a renewed file again, ignore what follows the first certificate of a `certKey`, can't ask a client for a
certificate, and accept key exchanges without forward secrecy.

Knows endpoint strings. Must never know PEM, OpenSSL's settings, or WebSocket.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from zope.interface import implementer

from echod.net.tls.identity import read_folder, read_pair
from echod.net.tls.reload import Certificates
from echod.net.tls.throwaway import Authority, Fault, Throwaway, Wanted, parse_name
from echod.settings import parse_choice
from echod.upstream import endpoints, tls_sessions


@implementer(IStreamServerEndpoint)
class Endpoint:
    """TLS over the endpoint `below`."""

    def __init__(self, creator: IOpenSSLServerConnectionCreator, below: IStreamServerEndpoint, clock: Any) -> None:
        """`creator` begins the TLS of each connection; `clock` is the reactor."""
        self.creator = creator
        self._below = below
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen."""
        return self._below.listen(tls_sessions.TLSFactory(self.creator, False, protocolFactory, clock=self._clock))


def served(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> Iterator[tuple[str, Certificates]]:
    """Return the text and the certificates of each endpoint whose certificates are in files.

    Nobody renews a throwaway certificate, and one that has expired was asked for.
    """
    return ((text, creator) for text, creator in _creators(endpoints) if isinstance(creator, Certificates))


def thrown_away(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> Iterator[tuple[str, Throwaway]]:
    """Return the text and the TLS of each endpoint whose certificate was made at start."""
    return ((text, creator) for text, creator in _creators(endpoints) if isinstance(creator, Throwaway))


def _creators(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> Iterator[tuple[str, object]]:
    return ((text, endpoint.creator) for text, endpoint in endpoints if isinstance(endpoint, Endpoint))


def ends(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> dict[tuple[str, ...], float]:
    """Return when each certificate from a file ends, in seconds since 1970, by the endpoint's text and the
    certificate's names.

    Of several certificates for the same names the first to end counts.
    """
    found: dict[tuple[str, ...], float] = {}
    for text, certificates in served(endpoints):
        for identity in certificates.used:
            kind, end = (text, identity.called), identity.chain[0].not_valid_after_utc.timestamp()
            found[kind] = min(end, found.get(kind, end))
    return found


def parse(text: str, authority: Authority | None = None) -> tuple[Certificates | Throwaway, str] | None:
    """Return what begins the TLS of an `ssl:`, `tls:` or `throwaway:` endpoint, and the string of the `tcp:` endpoint
    below it.

    `authority` issues the certificate of a `throwaway:` endpoint; without it, that endpoint has one of its own. Returns
    None for an endpoint of another kind. Raises `FileFault` for a file that can't be used, and another `ValueError` for
    a mistake in the text.
    """
    kind, _, _ = text.partition(":")
    if kind not in ("ssl", "tls", "throwaway"):
        return None
    (_, *arguments), options = endpoints.endpoint_arguments(text)
    try:
        if kind == "throwaway":
            wanted, below = _parse_throwaway(*arguments, **options)
            return (authority or Authority()).serve(text, wanted), below
        return _parse_ssl(*arguments, **options) if kind == "ssl" else _parse_tls(*arguments, **options)
    except TypeError as error:  # an unknown, missing or superfluous argument
        raise ValueError(re.sub(r"^_parse_(\w+)\(\)", r"\1:", str(error))) from error


def _parse_ssl(
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str | None = None,
    clientCa: str | None = None,
) -> tuple[Certificates, str]:
    key = _path("ssl: privateKey", privateKey)
    certificate, chain = (
        _optional_path("ssl: certKey", certKey) or key,
        _optional_path("ssl: extraCertChain", extraCertChain),
    )
    authorities = _optional_path("ssl: clientCa", clientCa)
    return Certificates(lambda: read_pair(key, certificate, chain), authorities), _tcp(port, interface, backlog)


def _parse_tls(
    path: str, port: str = "443", backlog: str = "50", interface: str = "", clientCa: str | None = None
) -> tuple[Certificates, str]:
    folder, authorities = _path("tls: path", path), _optional_path("tls: clientCa", clientCa)
    return Certificates(lambda: read_folder(folder), authorities), _tcp(port, interface, backlog)


def _parse_throwaway(
    port: str, names: str | None = None, interface: str = "", backlog: str = "50", fault: str | None = None
) -> tuple[Wanted, str]:
    try:
        wrong = None if fault is None else parse_choice(Fault, fault)
    except ValueError as error:
        raise ValueError(f"throwaway: fault={fault} {error}") from error
    if names is not None and wrong is Fault.WRONG_NAME:
        raise ValueError("throwaway: with fault=wrong-name there can be no names=")
    try:
        found = [] if names is None else [parse_name(name) for name in names.split(",")]
    except ValueError as error:
        raise ValueError(f"throwaway: names: {error}") from error
    with suppress(ValueError):  # the tcp: endpoint refuses what is no address
        if not (address := ip_address(interface)).is_unspecified:
            found.append(str(address))
    return Wanted(tuple(found), wrong), _tcp(port, interface, backlog)


def _path(name: str, text: str) -> Path:
    if not text:
        # Perhaps from a variable that isn't set. The path would be the working directory, with every *.pem below it.
        raise ValueError(f"{name} is empty")
    return Path(text).absolute()  # twistd may change its directory before a reload


def _optional_path(name: str, text: str | None) -> Path | None:
    return None if text is None else _path(name, text)


def _tcp(port: str, interface: str, backlog: str) -> str:
    port, interface, backlog = map(quoteStringArgument, (port, interface, backlog))
    return f"tcp:{port}:interface={interface}:backlog={backlog}"

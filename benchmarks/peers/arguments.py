"""The command line of all Python peers: ``PORT [-deflate] [-tls CERT KEY] [-pings SECONDS]``.

Knows: these words. Must never know: which server runs.
"""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Arguments:
    """The port on loopback, whether to accept permessage-deflate, the certificate of a TLS server, and how often to
    ping each connection, in seconds. Without ``-pings`` the library's default counts."""

    port: int
    deflate: bool
    certificate: tuple[str, str] | None
    pings: float | None

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context of a TLS server, or None without TLS."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        return context


def parse(argv: list[str]) -> Arguments:
    """Parse the words after the program's name."""
    at = argv.index("-tls") if "-tls" in argv else None
    certificate = (argv[at + 1], argv[at + 2]) if at is not None else None
    pings = float(argv[argv.index("-pings") + 1]) if "-pings" in argv else None
    return Arguments(port=int(argv[0]), deflate="-deflate" in argv, certificate=certificate, pings=pings)


def from_command_line() -> Arguments:
    """Parse the command line of this process."""
    return parse(sys.argv[1:])

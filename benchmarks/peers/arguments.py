"""The command line that the Python peers share: ``PORT [-deflate] [-tls CERT KEY]``.

Knows: those words. Must never know: which server is run.
"""

from __future__ import annotations

import ssl
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Arguments:
    """Where to listen on loopback, whether permessage-deflate may be agreed on, and the certificate of a TLS server."""

    port: int
    deflate: bool
    certificate: tuple[str, str] | None

    def ssl_context(self) -> ssl.SSLContext | None:
        """A server's context, or None for a server in the clear."""
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        return context


def parse(argv: list[str]) -> Arguments:
    """Read the words after the program's name."""
    at = argv.index("-tls") if "-tls" in argv else None
    certificate = (argv[at + 1], argv[at + 2]) if at is not None else None
    return Arguments(port=int(argv[0]), deflate="-deflate" in argv, certificate=certificate)


def from_command_line() -> Arguments:
    """Read this process's own."""
    return parse(sys.argv[1:])

"""The certificates of one endpoint, which a reload (SIGHUP) reads again while connections stay open.

Knows files and contexts. Must never know which endpoint the connections come to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from echod.net.tls.context import choose_by_name, describe_error, make_context
from echod.net.tls.identity import Identity, rank
from echod.net.tls.pem import FileFault, Pem, read_certificates


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """What new connections show, and what they ask of a client; `reload` takes what the files hold by then."""

    def __init__(self, read: Callable[[], list[Identity]], client_ca: Path | None) -> None:
        """Read the files.

        `read` returns the identities; `client_ca` is a file of authorities and perhaps revocation lists. Raises
        `FileFault`.
        """
        self.used: tuple[Identity, ...] = ()
        """The identities that clients may be shown; the first is for clients that send no name, or an unknown one."""
        self._read = read
        self._client_ca = client_ca
        self.reload()

    def reload(self) -> str:
        """Read the files again, and return a line that says what they hold; after a `FileFault` nothing has changed."""
        identities, clients = self._read_files()
        best: dict[str, Identity] = {}
        for identity in identities:
            for name in identity.names:
                if name not in best or rank(best[name].chain[0]) < rank(identity.chain[0]):
                    best[name] = identity
        used = tuple(dict.fromkeys([identities[0], *best.values()]))
        contexts = {identity: _make_context(identity, clients) for identity in used}
        first = contexts[identities[0]]
        choose_by_name(first, {name: contexts[identity] for name, identity in best.items()})
        self._context, self.used = first, used
        return "; ".join(map(str, used))

    def _read_files(self) -> tuple[list[Identity], Pem | None]:
        try:
            return self._read(), None if self._client_ca is None else read_certificates(self._client_ca)
        except OSError as error:
            raise FileFault(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise FileFault(" ".join(str(error).split())) from error

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: ARG002  # as the interface has it
        """Begin a connection."""
        return SSL.Connection(self._context)


def _make_context(identity: Identity, clients: Pem | None) -> SSL.Context:
    try:
        return make_context(identity.key, identity.chain, clients)
    except (SSL.Error, crypto.Error, TypeError) as error:
        reason = describe_error(error)
        raise FileFault(f"{identity.path}: the certificate for {identity} can't be used: {reason}") from error

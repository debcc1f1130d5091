"""A client's TLS, which can say why it does not trust a server: expired, self-signed, wrong name.

Twisted's own `optionsForClientTLS` verifies as strictly, but says only "certificate verify failed".

Knows pyOpenSSL and service_identity. Must never know what is sent over the connection. Nothing may be sent before
`check_name` has returned.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.x509 import Certificate, DNSName, ExtensionNotFound, IPAddress, SubjectAlternativeName
from OpenSSL import SSL
from OpenSSL.crypto import X509
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import CertificateOptions, platformTrust
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from echod.core.printable import escape
from echod.http.ws_url import Target

# openssl-verification-options(1), X509_STORE_CTX_get_error(3).
_REASONS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed, and this machine does not trust it",
    19: "leads to a self-signed certificate that this machine does not trust",
    20: "is from an issuer that this machine does not know",
    21: "can't be verified, because the certificate of its issuer is missing",
    23: "is revoked",
    26: "is not for servers",
}

_UNTRUSTED = range(18, 22)
"""Those of them that have to do with whom this machine trusts."""

MAX_NAMES = 5
"""How many names of a certificate are shown."""


class UntrustedError(Exception):
    """The server's certificate is not for the target's host."""


@implementer(IOpenSSLClientConnectionCreator)
class Verifier:
    """Makes the TLS connection to one target, and keeps the reason why its certificate was rejected."""

    def __init__(self, target: Target, is_insecure: bool, protocols: Sequence[bytes] = ()) -> None:
        """`protocols` are those to ask for (ALPN)."""
        self._target = target
        self._is_insecure = is_insecure
        options = CertificateOptions() if is_insecure else CertificateOptions(trustRoot=platformTrust())
        self._context = options.getContext()
        if protocols:
            self._context.set_alpn_protos(list(protocols))
        self._connection: SSL.Connection | None = None
        self.why = ""
        """What is wrong with the certificate, as a sentence; empty if nothing is."""

    def clientConnectionForTLS(self, _protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        """Make a connection that sends the server's name (SNI). An address is not sent (RFC 6066 section 3)."""
        connection = self._connection = SSL.Connection(self._context, None)
        if not self._target.is_address:
            connection.set_tlsext_host_name(self._target.host.removesuffix(".").encode())
        connection.set_verify(SSL.VERIFY_NONE if self._is_insecure else SSL.VERIFY_PEER, self._note)
        return connection

    def _note(self, _connection: SSL.Connection, certificate: X509, error: int, _depth: int, is_right: int) -> bool:
        if not is_right and not self.why:
            self.why = (
                "the certificate "
                f"{_REASONS.get(error, f'was rejected with error {error} (X509_STORE_CTX_get_error(3))')}"
            )
            self.why += f": {_describe(certificate.to_cryptography())}"
            # OpenSSL says nothing of a file that it can't find.
            file = os.environ.get("SSL_CERT_FILE")
            if error in _UNTRUSTED and file and not Path(file).is_file():
                self.why += f"; SSL_CERT_FILE names {escape(file)}, which is no file"
        return self._is_insecure or bool(is_right)

    def check_name(self) -> None:
        """Check, after the TLS handshake, that the certificate is for the target. Raises `UntrustedError`."""
        if self._is_insecure or self._connection is None:
            return
        verify = verify_ip_address if self._target.is_address else verify_hostname
        try:
            with warnings.catch_warnings():
                # service_identity asks pyOpenSSL for its own X509 class, which is deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                verify(self._connection, self._target.host.removesuffix("."))
        except (VerificationError, CertificateError) as error:
            certificate = self._connection.get_peer_certificate(as_cryptography=True)
            assert certificate is not None
            names = list(_names(certificate))
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            whose = f"for {', '.join(names[:MAX_NAMES])}{more}" if names else "for no host: it has no subjectAltName"
            raise UntrustedError(f"the certificate is {whose}, and not for {self._target.host}") from error

    @property
    def protocol(self) -> str:
        """The protocol that the server has agreed on (ALPN); empty if it has agreed on none."""
        assert self._connection is not None
        return self._connection.get_alpn_proto_negotiated().decode(errors="replace")

    def describe(self) -> str:
        """Return the TLS version, the cipher and the certificate's last day."""
        assert self._connection is not None
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        until = f", certificate until {certificate.not_valid_after_utc:%Y-%m-%d}" if certificate is not None else ""
        return f"{self._connection.get_protocol_version_name()}, {self._connection.get_cipher_name()}{until}"


def _describe(certificate: Certificate) -> str:
    valid = f"valid {certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"
    return f"subject {certificate.subject.rfc4514_string()}, issuer {certificate.issuer.rfc4514_string()}, {valid}"


def _names(certificate: Certificate) -> Iterable[str]:
    try:
        names = certificate.extensions.get_extension_for_class(SubjectAlternativeName).value
    except ExtensionNotFound:
        return ()
    return [*names.get_values_for_type(DNSName), *map(str, names.get_values_for_type(IPAddress))]

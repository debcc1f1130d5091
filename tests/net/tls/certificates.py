"""Certificates of an endpoint string, and what a client is shown of them, for the tests of this folder."""

from __future__ import annotations

from cryptography import x509

from echod.net.tls import endpoint
from echod.net.tls.reload import Certificates
from tests.tls import Client


def certificates_of(text: str) -> Certificates:
    """Return the certificates of an endpoint string."""
    found = endpoint.parse(text)
    assert found is not None
    certificates, _ = found
    assert isinstance(certificates, Certificates)
    return certificates


def shown(certificates: Certificates, name: str | None = None) -> x509.Certificate:
    """Return the certificate that a client gets when it asks for `name`."""
    certificate: x509.Certificate = Client(certificates, name).shake_hands().chain[0]
    return certificate

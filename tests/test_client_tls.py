"""What is said of a certificate. The verification itself, against real servers, is in test_probe.py."""

from __future__ import annotations

import datetime
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509

from echod.client_tls import UntrustedError, Verifier
from echod.ws_url import parse


def certificate_for(*names: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
    start = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )


class FakeConnection:
    """Has a peer with a certificate, or with none."""

    def __init__(self, certificate: x509.Certificate | None) -> None:
        self._certificate = certificate

    def get_peer_certificate(self, as_cryptography: bool = False) -> object:
        if self._certificate is None or as_cryptography:
            return self._certificate
        return X509.from_cryptography(self._certificate)

    def get_protocol_version_name(self) -> str:
        return "TLSv1.3"

    def get_cipher_name(self) -> str:
        return "A"


def verifier(url: str, certificate: x509.Certificate | None, is_insecure: bool = False) -> Verifier:
    made = Verifier(parse(url), is_insecure)
    made._connection = cast(SSL.Connection, FakeConnection(certificate))
    return made


def test_the_names_of_a_certificate_are_told_but_not_all() -> None:
    names: list[x509.GeneralName] = [x509.DNSName(f"{number}.example") for number in range(7)]
    with pytest.raises(UntrustedError) as error:
        verifier("wss://localhost", certificate_for(*names)).check_name()
    told = "0.example, 1.example, 2.example, 3.example, 4.example and 2 more"
    assert str(error.value) == f"the certificate is for {told}, and not for localhost"


def test_right_names() -> None:
    certificate = certificate_for(x509.DNSName("*.a.example"), x509.DNSName("my_service"))
    for host in ("b.a.example", "b.a.example.", "my_service"):
        verifier(f"wss://{host}", certificate).check_name()
    verifier("wss://other", certificate, is_insecure=True).check_name()
    Verifier(parse("wss://other"), False).check_name()


@pytest.mark.parametrize(("error", "text"), [(10, "has expired"), (99, "was turned down with error 99 (X509_STORE_CTX_get_error(3))")])
def test_the_first_reason_is_told(error: int, text: str) -> None:
    made = Verifier(parse("wss://localhost"), False)
    certificate: Any = X509.from_cryptography(certificate_for(x509.DNSName("a")))
    connection = cast(SSL.Connection, None)
    assert made._note(connection, certificate, 0, 1, 1)
    assert made.why == ""
    assert not made._note(connection, certificate, error, 0, 0)
    assert not made._note(connection, certificate, 20, 0, 0)
    assert made.why == f"the certificate {text}: subject CN=someone, issuer CN=someone, valid 2026-01-02 to 2026-01-04"


def test_a_connection_is_described() -> None:
    certificate = certificate_for(x509.DNSName("localhost"))
    assert verifier("wss://localhost", certificate).describe() == "TLSv1.3, A, certificate until 2026-01-04"
    assert verifier("wss://localhost", None).describe() == "TLSv1.3, A"

"""What is reported about a certificate. test_connection.py has the verification itself, against real servers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from OpenSSL import SSL
from OpenSSL.crypto import X509

from echod.check.client_tls import UntrustedError, Verifier
from echod.http.ws_url import parse
from tests.odd_certificate import OddCertificate


@pytest.fixture
def certificate_for(tmp_path: Path) -> Callable[..., x509.Certificate]:
    return lambda *hosts: OddCertificate(tmp_path / "odd.pem", *hosts).certificate


class FakeConnection:
    """A TLS connection whose peer has a certificate, or none."""

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


def test_some_names_of_a_certificate_are_shown(certificate_for: Any) -> None:
    names = [f"{number}.example" for number in range(7)]
    with pytest.raises(UntrustedError) as error:
        verifier("wss://localhost", certificate_for(*names)).check_name()
    told = "0.example, 1.example, 2.example, 3.example, 4.example and 2 more"
    assert str(error.value) == f"the certificate is for {told}, and not for localhost"


def test_matching_names(certificate_for: Any) -> None:
    certificate = certificate_for("*.a.example", "my_service")
    for host in ("b.a.example", "b.a.example.", "my_service"):
        verifier(f"wss://{host}", certificate).check_name()
    verifier("wss://other", certificate, is_insecure=True).check_name()
    Verifier(parse("wss://other"), False).check_name()


@pytest.mark.parametrize(
    ("error", "text"), [(10, "has expired"), (99, "was rejected with error 99 (X509_STORE_CTX_get_error(3))")]
)
def test_the_first_reason_is_kept(error: int, text: str, certificate_for: Any) -> None:
    made = Verifier(parse("wss://localhost"), False)
    odd = certificate_for("a")
    certificate = X509.from_cryptography(odd)
    connection = cast(SSL.Connection, None)
    assert made._note(connection, certificate, 0, 1, 1)
    assert made.why == ""
    assert not made._note(connection, certificate, error, 0, 0)
    assert not made._note(connection, certificate, 20, 0, 0)
    days = f"{odd.not_valid_before_utc:%Y-%m-%d} to {odd.not_valid_after_utc:%Y-%m-%d}"
    assert made.why == f"the certificate {text}: subject CN=someone, issuer CN=someone, valid {days}"


@pytest.mark.parametrize(
    ("error", "name", "says"),
    [(20, "gone.pem", True), (18, "", True), (10, "gone.pem", False), (20, "here.pem", False)],
)
def test_a_file_of_authorities_that_does_not_exist_is_named(
    error: int, name: str, says: bool, certificate_for: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "here.pem").touch()
    (tmp_path / "folder").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / name))
    made = Verifier(parse("wss://localhost"), False)
    made._note(cast(SSL.Connection, None), X509.from_cryptography(certificate_for("a")), error, 0, 0)
    assert made.why.endswith(f"; SSL_CERT_FILE names {tmp_path / name}, which is no file") == says


def test_a_connection_is_described(certificate_for: Any) -> None:
    certificate = certificate_for("localhost")
    assert (
        verifier("wss://localhost", certificate).describe()
        == f"TLSv1.3, A, certificate until {certificate.not_valid_after_utc:%Y-%m-%d}"
    )
    assert verifier("wss://localhost", None).describe() == "TLSv1.3, A"

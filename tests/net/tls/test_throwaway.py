"""Throwaway certificates: what is in them, what each fault has wrong, and that one authority issues all of them.

tests/interop/test_throwaway.py shows them to clients.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from OpenSSL import SSL

from echod.net.tls.throwaway import (
    LIFETIME,
    SKEW,
    WRONG_NAME,
    Authority,
    Fault,
    Issued,
    Throwaway,
    Wanted,
    is_own_authority,
    parse_name,
)
from tests.tls import Certificate, Client


def issue(fault: Fault | None = None, *names: str) -> tuple[Throwaway, x509.Certificate]:
    """Return the TLS of an endpoint, and the certificate of its authority."""
    authority = Authority()
    made = authority.serve("throwaway:0", Wanted(names, fault))
    return made, x509.load_pem_x509_certificate(authority.issued.authority.encode())


@pytest.fixture(autouse=True)
def _hostname(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box")


def is_issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, InvalidSignature):
        return False
    return True


@pytest.mark.parametrize("fault", [None, *Fault])
def test_only_what_was_asked_for_is_wrong(fault: Fault | None) -> None:
    made, authority = issue(fault, "echod.example")
    end = Client(made).shake_hands()
    (shown,) = end.chain
    assert shown == made.certificate
    now = datetime.now(UTC)
    assert (shown.not_valid_after_utc < now) == (fault is Fault.EXPIRED)
    assert (shown.not_valid_before_utc > now) == (fault is Fault.NOT_YET)
    local = ("localhost", "127.0.0.1", "::1", "box", "echod.example")
    assert made.names == ((WRONG_NAME,) if fault is Fault.WRONG_NAME else local)
    assert is_issued_by(shown, shown) == (fault is Fault.SELF_SIGNED)
    assert is_issued_by(shown, authority) == (fault not in (Fault.SELF_SIGNED, Fault.UNKNOWN_AUTHORITY))
    key = shown.public_key()
    if fault is Fault.WEAK_KEY:
        assert isinstance(key, RSAPublicKey)
        assert key.key_size == 768
    else:
        assert isinstance(key, EllipticCurvePublicKey)
        assert isinstance(key.curve, SECP256R1)
    version = "TLSv1.2" if fault is Fault.TLS_1_2 else "TLSv1.3"
    assert end.connection.get_protocol_version_name() == version


def test_the_time_of_a_certificate() -> None:
    made, authority = issue()
    now = datetime.now(UTC)
    assert abs((made.certificate.not_valid_before_utc + SKEW - now).total_seconds()) < 60
    assert abs((made.certificate.not_valid_after_utc - LIFETIME - now).total_seconds()) < 60
    assert authority.not_valid_before_utc < now < authority.not_valid_after_utc


def test_the_authority_issues_for_endpoints_alone() -> None:
    """It can't make another authority."""
    made, authority = issue()
    limits = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (limits.ca, limits.path_length) == (True, 0)
    assert not made.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_one_authority_for_all_and_another_for_each_start() -> None:
    authority = Authority()
    made = [authority.serve(f"throwaway:{port}", Wanted()) for port in (1, 2, 1)]
    assert made[0].certificate == made[2].certificate != made[1].certificate
    assert made[0].certificate.issuer == made[1].certificate.issuer
    assert issue()[1].subject != made[0].certificate.issuer


def test_its_own_authority_is_told_from_other_files(certificate: Certificate) -> None:
    authority = Authority()
    authority.serve("throwaway:1", Wanted())
    own = authority.issued.authority.encode()
    assert is_own_authority(own)
    for other in (
        b"",
        b"precious",
        certificate.pem,
        own + own,
        own + certificate.path.read_bytes(),
        b"PRIVATE KEY" + own,
    ):
        assert not is_own_authority(other)


def test_nothing_is_made_before_an_endpoint_asks() -> None:
    assert Authority().issued == Issued()


def test_a_worker_shows_what_its_parent_has_made() -> None:
    parent = Authority()
    shown = [parent.serve(f"throwaway:0:fault={fault}", Wanted((), fault)) for fault in Fault]
    worker = Authority(parent.issued)
    for fault, made in zip(Fault, shown, strict=True):
        again = worker.serve(f"throwaway:0:fault={fault}", Wanted((), fault))
        assert again.certificate == made.certificate
        assert Client(again).shake_hands().chain == [made.certificate]
    assert worker.issued == parent.issued


def test_a_client_that_insists_on_tls_1_3_is_refused() -> None:
    client = Client(issue(Fault.TLS_1_2)[0])
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    client.connection = SSL.Connection(context)
    client.connection.set_connect_state()
    with pytest.raises(SSL.Error, match="unsupported protocol"):
        client.shake_hands()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Echod.Example", "echod.example"),
        ("*.example", "*.example"),
        ("grüße.example", "xn--gre-6ka8l.example"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert parse_name(text) == name
    assert issue(None, name)[0].names[-1] == name


@pytest.mark.parametrize(
    "text", ["", "my_host", "a@example", "192.0.2.0/24", "*", "*.", "a.*.example", "a b", "x" * 64]
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"is neither a host name nor an IP address$"):
        parse_name(text)


def test_a_machine_with_an_odd_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my_host")
    assert issue()[0].names == ("localhost", "127.0.0.1", "::1")

"""A reload: new connections get the new certificates, and a broken file changes nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from echod.net.tls import endpoint
from echod.net.tls.pem import FileFault
from tests.net.tls.certificates import certificates_of, shown
from tests.tls import Certificate, Client

ODD = {
    # An x400Address instead of a DNS name.
    "name": (b"\x82\x09localhost", b"\xa3\x09localhost"),
    "name's octets": (b"\x82\x09localhost", b"\x82\x09local\xffost"),
    # Instead of basicConstraints and subjectAltName, twice subjectAltName.
    "extensions": (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
    # The last number of the identifier of elliptic curves in general, and of that of P-256.
    "kind of key": (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x09"),
    "curve": (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x50"),
}
"""Bytes of a certificate, and odd ones to replace them. The signature does not fit afterwards; only a client checks
it."""


@pytest.mark.parametrize("kept", [0, 20, 300, -60, -1700])
def test_a_file_that_is_not_written_to_its_end(kept: int, tmp_path: Path) -> None:
    """The file has the certificate of one of several names, or the authorities with a revocation list."""
    ours, other = Certificate(tmp_path / "a.pem", ["a.example"]), Certificate(tmp_path / "b.pem", ["b.example"])
    revoked = Certificate(tmp_path / "revoked", ["gone"], issuer=ours)
    (tmp_path / "trusted").mkdir()
    trusted = tmp_path / "trusted" / "ca"
    trusted.write_bytes(ours.pem + ours.revoke(revoked))
    for path, text in (
        (ours.path, f"tls:{tmp_path}"),
        (trusted, f"ssl:0:privateKey={other.path}:clientCa={trusted}"),
    ):
        certificates = certificates_of(text)
        whole = path.read_bytes()
        path.write_bytes(whole[:kept])
        with pytest.raises(ValueError, match=f"{path}: (a part of it is missing|there is nothing in PEM format in it)"):
            certificates.reload()
        path.write_bytes(whole)
    assert Client(certificates_of(f"tls:{tmp_path}"), "a.example").shake_hands().chain == [ours.certificate]


def test_an_open_connection_goes_on(tmp_path: Path) -> None:
    old = Certificate(tmp_path / "a.pem")
    certificates = certificates_of(f"ssl:0:privateKey={old.path}")
    begun, open_ = Client(certificates), Client(certificates).shake_hands()
    new = Certificate(tmp_path / "a.pem")
    assert "localhost until 20" in certificates.reload()
    assert shown(certificates) == new.certificate
    # So does the connection that was in the middle of its handshake.
    assert begun.shake_hands().chain == [old.certificate]
    open_.connection.send(b"still here")
    open_.server.bio_write(open_.connection.bio_read(2**16))
    assert open_.server.recv(100) == b"still here"


@pytest.mark.parametrize("octets", [b"", b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"])
def test_the_old_one_stays_when_the_new_one_is_broken(tmp_path: Path, octets: bytes) -> None:
    old = Certificate(tmp_path / "a.pem")
    pair, folder = certificates_of(f"ssl:0:privateKey={old.path}"), certificates_of(f"tls:{tmp_path}")
    old.path.write_bytes(octets)
    for certificates in (pair, folder):
        with pytest.raises(ValueError, match=r"certificate|private key|PEM"):
            certificates.reload()
        assert shown(certificates) == old.certificate


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_new_certificate_is_one_error(tmp_path: Path, odd: str) -> None:
    good, path = Certificate(tmp_path / "good.pem", ["a.example"]), tmp_path / "b.pem"
    other = Certificate(path)
    texts = [f"ssl:0:privateKey={path}", f"tls:{tmp_path}"]
    if odd == "version":  # nothing else is checked in an authority
        texts.append(f"ssl:0:privateKey={good.path}:clientCa={path}")
    all_ = [certificates_of(text) for text in texts]
    before, after = ODD[odd]
    octets = other.certificate.public_bytes(Encoding.DER)
    assert before in octets
    path.write_text(other.key_pem.decode() + ssl.DER_cert_to_PEM_cert(octets.replace(before, after)))
    for text, certificates in zip(texts, all_, strict=True):
        for read in (certificates.reload, lambda text=text: endpoint.parse(text)):
            with pytest.raises(ValueError, match=r"b\.pem: .") as error:
                read()
            assert type(error.value) is FileFault
            assert "\n" not in str(error.value)
        if "clientCa" not in text:
            assert shown(certificates, "localhost") == other.certificate


def test_an_authority_may_be_odd(tmp_path: Path) -> None:
    one, other = Certificate(tmp_path / "one"), Certificate(tmp_path / "other")
    octets = other.certificate.public_bytes(Encoding.DER)
    other.path.write_text(ssl.DER_cert_to_PEM_cert(octets.replace(*ODD["name"])))
    assert certificates_of(f"ssl:0:privateKey={one.path}:clientCa={other.path}").reload()


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
def test_a_session_is_not_resumed_after_a_reload(tmp_path: Path, version: int) -> None:
    certificates = certificates_of(f"ssl:0:privateKey={Certificate(tmp_path / 'a.pem').path}")
    first = Client(certificates, version=version).shake_hands()
    session = first.connection.get_session()
    assert session is not None
    new = Certificate(tmp_path / "a.pem")
    certificates.reload()
    again = Client(certificates, version=version)
    again.connection = SSL.Connection(first.connection.get_context())
    again.connection.set_connect_state()
    again.connection.set_session(session)
    # A resumed session would have the certificate of its beginning.
    assert again.shake_hands().chain == [new.certificate]


def test_what_openssl_refuses(tmp_path: Path) -> None:
    weak = Certificate(tmp_path / "weak", key=rsa.generate_private_key(65537, 1024))
    with pytest.raises(
        FileFault, match=r"/weak: the certificate for localhost until .* can't be used: ee key too small"
    ):
        endpoint.parse(f"ssl:0:privateKey={weak.path}")

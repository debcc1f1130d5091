"""PEM files: their content, and the message for one that can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from echod.net.tls.pem import read_certificates, read_pem
from tests.net.tls.certificates import certificates_of, shown
from tests.tls import Certificate


def test_the_content_of_a_file(tmp_path: Path) -> None:
    authority = Certificate(tmp_path / "authority")
    gone = Certificate(tmp_path / "gone", issuer=authority)
    authority.path.write_bytes(authority.key_pem + authority.pem + gone.pem + authority.revoke(gone))
    pem = read_pem(authority.path)
    assert pem.certificates == (authority.certificate, gone.certificate)
    assert [key.public_key() for key in pem.keys] == [authority.key.public_key()]
    assert len(pem.revocations) == 1


@pytest.mark.parametrize(
    ("octets", "fault"),
    [
        (b"", "there is nothing in PEM format in it"),
        (b"-----BEGIN CERTIFICATE-----\nMII", "there is nothing in PEM format in it"),
        (
            b"-----BEGIN X-----\nx\n-----END X-----\n-----BEGIN X509 CRL-----\nMII",
            "a part of it is missing",
        ),
        (b"x\n-----END X-----\n-----BEGIN X-----\nx\n-----END X-----\n", "a part of it is missing"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "."),
    ],
)
def test_a_file_that_cant_be_used_is_named(octets: bytes, fault: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pem"
    path.write_bytes(octets)
    with pytest.raises(ValueError, match=f"^{path}: {fault}"):
        read_pem(path)


def test_a_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    one = Certificate(tmp_path / "a.pem")
    assert read_certificates(one.path).certificates == (one.certificate,)
    one.path.write_bytes(one.key_pem)
    with pytest.raises(ValueError, match="there is no certificate in it"):
        read_certificates(one.path)


def test_parameters_are_left_out(tmp_path: Path) -> None:
    one = Certificate(tmp_path / "one")
    one.path.write_bytes(
        b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + one.path.read_bytes()
    )
    assert shown(certificates_of(f"ssl:0:privateKey={one.path}")) == one.certificate

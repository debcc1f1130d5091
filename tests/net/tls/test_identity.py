"""Which certificate goes with which key, and the message for one that can't be used."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL

from echod.net.tls import endpoint
from echod.net.tls.identity import read_folder
from echod.net.tls.pem import FileFault
from tests.net.tls.certificates import certificates_of, shown
from tests.tls import Certificate, Client


class TestFiles:
    """The files that an `ssl:` endpoint names."""

    def test_a_key_and_a_chain_in_files_of_their_own(self, tmp_path: Path) -> None:
        root = Certificate(tmp_path / "root", ["Root"])
        between = Certificate(tmp_path / "between", ["Between"], issuer=root)
        leaf = Certificate(tmp_path / "leaf", issuer=between)
        (tmp_path / "key").write_bytes(leaf.key_pem)
        (tmp_path / "full").write_bytes(leaf.pem + between.pem)
        (tmp_path / "cert").write_bytes(leaf.pem)
        (tmp_path / "chain").write_bytes(between.pem)
        for text in ("certKey={0}/full", "certKey={0}/cert:extraCertChain={0}/chain"):
            certificates = certificates_of(f"ssl:0:privateKey={tmp_path}/key:{text.format(tmp_path)}")
            assert Client(certificates).shake_hands().chain == [leaf.certificate, between.certificate]

    def test_files_that_cant_be_used(self, tmp_path: Path) -> None:
        one, other = Certificate(tmp_path / "one"), Certificate(tmp_path / "other")
        (tmp_path / "key").write_bytes(one.key_pem)
        (tmp_path / "certificate").write_bytes(one.pem)
        (tmp_path / "empty").write_bytes(b"")
        # A revocation list that is still being written.
        (tmp_path / "cut").write_bytes(one.pem + b"-----BEGIN X509 CRL-----\nMII")
        (tmp_path / "broken").write_bytes(one.pem[:100] + one.pem[150:])
        encoding, encryption = Encoding.PEM, BestAvailableEncryption(b"secret")
        (tmp_path / "locked").write_bytes(one.key.private_bytes(encoding, PrivateFormat.PKCS8, encryption))
        for arguments, complaint in (
            ("privateKey={0}/none", "none: No such file or directory"),
            ("privateKey={0}", "/test_files_that_cant_be_used0: Is a directory"),
            ("privateKey={0}/one:clientCa={0}/none", "none: No such file or directory"),
            ("privateKey={0}/one:clientCa={0}/cut", "cut: a part of it is missing"),
            ("privateKey={0}/empty", "empty: there is nothing in PEM format in it"),
            ("privateKey={0}/certificate", "certificate: there is no private key in it"),
            ("privateKey={0}/locked", "locked: .*encrypted"),
            ("privateKey={0}/key", "key: there is no certificate in it"),
            ("privateKey={0}/key:certKey={0}/broken", "broken: "),
            ("privateKey={0}/key:certKey={0}/other", "other: its certificate is not for the key in .*key"),
            ("privateKey={0}/one:extraCertChain={0}/key", "key: there is no certificate in it"),
            ("privateKey={0}/one:clientCa={0}/key", "key: there is no certificate in it"),
        ):
            with pytest.raises(FileFault, match=complaint):
                endpoint.parse("ssl:0:" + arguments.format(tmp_path))
        assert other.key is not one.key

    @pytest.mark.parametrize(
        "make",
        [
            lambda: dsa.generate_private_key(2048),
            lambda: ec.generate_private_key(ec.SECP224R1()),
            lambda: ec.generate_private_key(ec.SECP256K1()),
            lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
            x25519.X25519PrivateKey.generate,
        ],
        ids=["DSA", "P-224", "secp256k1", "brainpool", "X25519"],
    )
    def test_a_key_that_no_client_accepts(self, make: Callable[[], Any], tmp_path: Path) -> None:
        path = tmp_path / "a.pem"
        old = Certificate(path)
        texts = (f"ssl:0:privateKey={path}", f"tls:{tmp_path}")
        both = [certificates_of(text) for text in texts]
        Certificate(path, key=make(), issuer=Certificate(tmp_path / "root"))
        for text, certificates in zip(texts, both, strict=True):
            for read in (certificates.reload, lambda text=text: endpoint.parse(text)):
                with pytest.raises(ValueError, match=r"a\.pem: its key is not RSA .*, ECDSA with P-256, .* Ed448$"):
                    read()
            assert shown(certificates) == old.certificate

    def test_a_certificate_for_pss_alone(self, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "a.pem", key=rsa.generate_private_key(65537, 2048))
        octets = one.certificate.public_bytes(Encoding.DER)
        # The last number of the kind of key, and its parameters; without parameters the defaults hold.
        before, after = (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01" + rest for rest in (b"\x01\x05\x00", b"\x0a\x30\x00")
        )
        assert before in octets
        one.path.write_text(one.key_pem.decode() + ssl.DER_cert_to_PEM_cert(octets.replace(before, after)))
        for text in (f"ssl:0:privateKey={one.path}", f"tls:{tmp_path}"):
            with pytest.raises(ValueError, match=r"a\.pem: its key is not RSA \(other than PSS only\), "):
                endpoint.parse(text)

    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    @pytest.mark.parametrize(
        "make",
        [
            lambda: rsa.generate_private_key(65537, 2048),
            lambda: ec.generate_private_key(ec.SECP256R1()),
            lambda: ec.generate_private_key(ec.SECP384R1()),
            lambda: ec.generate_private_key(ec.SECP521R1()),
            ed25519.Ed25519PrivateKey.generate,
            ed448.Ed448PrivateKey.generate,
        ],
        ids=["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"],
    )
    def test_a_key_that_clients_accept(self, make: Callable[[], Any], version: int, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "a.pem", key=make(), issuer=Certificate(tmp_path / "root"))
        for text in (f"ssl:0:privateKey={one.path}", f"tls:{tmp_path}"):
            assert Client(certificates_of(text), version=version).shake_hands().chain == [one.certificate]


class TestFolder:
    """The files of a `tls:` endpoint."""

    def test_each_name_has_its_own(self, tmp_path: Path) -> None:
        first = Certificate(tmp_path / "a.pem", ["a.example", "www.a.example"])
        (tmp_path / "below").mkdir()
        other = Certificate(tmp_path / "below" / "b.pem", ["*.b.example", "B.Example"])
        (tmp_path / "README").write_text("no certificate")
        certificates = certificates_of(f"tls:{tmp_path}")
        for name, expected in (
            ("a.example", first),
            ("www.a.example", first),
            ("WWW.A.example", first),
            ("b.example", other),
            ("x.b.example", other),
            ("y.x.b.example", first),
            ("unknown.example", first),
            ("örtlich", first),
            (None, first),
        ):
            assert shown(certificates, name) == expected.certificate, name

    def test_a_certificate_without_names_is_for_clients_without_sni(self, tmp_path: Path) -> None:
        nameless = Certificate(tmp_path / "a.pem", [])
        named = Certificate(tmp_path / "b.pem")
        certificates = certificates_of(f"tls:{tmp_path}")
        assert shown(certificates) == nameless.certificate
        assert shown(certificates, "localhost") == named.certificate
        assert certificates.reload().startswith("no name until ")

    def test_the_newest_is_shown(self, tmp_path: Path) -> None:
        old = Certificate(tmp_path / "a.pem", age=50)
        certificates = certificates_of(f"tls:{tmp_path}")
        renewed = Certificate(tmp_path / "b.pem", age=2, key=old.key)
        early = Certificate(tmp_path / "c.pem", age=-2, key=old.key)
        certificates.reload()
        assert shown(certificates, "localhost") == shown(certificates) == renewed.certificate
        rekeyed = Certificate(tmp_path / "d.pem")
        certificates.reload()
        assert shown(certificates, "localhost") == rekeyed.certificate
        assert shown(certificates, "localhost") != early.certificate

    def test_issuers_are_found_by_their_signature(self, tmp_path: Path) -> None:
        root = Certificate(tmp_path / "root", ["Root"])
        impostor = Certificate(tmp_path / "impostor", ["Between"], issuer=Certificate(tmp_path / "other", ["Other"]))
        between = Certificate(tmp_path / "between", ["Between"], issuer=root)
        leaf = Certificate(tmp_path / "leaf", issuer=between)
        (tmp_path / "privkey.pem").write_bytes(leaf.key_pem)
        (tmp_path / "cert.pem").write_bytes(leaf.pem)
        (tmp_path / "fullchain.pem").write_bytes(leaf.pem + between.pem)
        # This file is read before that of the right issuer.
        (tmp_path / "authority.pem").write_bytes(impostor.pem + root.pem)
        certificates = certificates_of(f"tls:{tmp_path}")
        assert Client(certificates).shake_hands().chain == [leaf.certificate, between.certificate]
        (tmp_path / "fullchain.pem").unlink()
        certificates.reload()
        assert Client(certificates).shake_hands().chain == [leaf.certificate]

    def test_folders_that_cant_be_used(self, tmp_path: Path) -> None:
        with pytest.raises(FileFault, match="/none: No such file or directory"):
            endpoint.parse(f"tls:{tmp_path}/none")
        with pytest.raises(ValueError, match="there is no certificate"):
            endpoint.parse(f"tls:{tmp_path}")
        one = Certificate(tmp_path / "one.pem")
        one.path.write_bytes(one.key_pem)
        with pytest.raises(ValueError, match=r"one\.pem: there is no certificate for its key"):
            endpoint.parse(f"tls:{tmp_path}")
        one.path.write_bytes(one.pem)
        with pytest.raises(ValueError, match="there is no certificate with its key"):
            endpoint.parse(f"tls:{tmp_path}")
        key = x25519.X25519PrivateKey.generate()
        Certificate(tmp_path / "two.pem")
        one.path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ValueError, match=r"one\.pem"):
            endpoint.parse(f"tls:{tmp_path}")


def test_why_clients_refuse_a_certificate(tmp_path: Path) -> None:
    def fault(age: float = 1, rest: float = 24) -> str | None:
        return read_folder(Certificate(tmp_path / "a.pem", age=age, rest=rest).path.parent)[0].fault

    assert fault() is None
    assert fault(age=2, rest=-1) == "has expired"
    begin = datetime.now(UTC) + timedelta(hours=1)
    found = fault(age=-1)
    assert found in {f"is not valid before {begin + timedelta(minutes=late):%Y-%m-%d %H:%M} UTC" for late in (0, 1)}

"""Certificates from files: which is shown to whom, what is asked of a client, and what becomes of both when the files
change."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from echod.net import tls
from echod.net.endpoints import parse_endpoint
from echod.upstream.tls_sessions import tls_fault
from tests.fakes import make_factory
from tests.frames import TEXT, client_frame, handshake, server_frame
from tests.tls import Certificate, Client

REAL: Any = reactor

ODD = {
    # An x400Address instead of a DNS name.
    "name": (b"\x82\x09localhost", b"\xa3\x09localhost"),
    "name's octets": (b"\x82\x09localhost", b"\x82\x09local\xffost"),
    # Of basicConstraints and subjectAltName, two of the latter.
    "extensions": (b"\x06\x03\x55\x1d\x13", b"\x06\x03\x55\x1d\x11"),
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x07"),
    # The last number of the identifier of elliptic curves in general, and of P-256.
    "kind of key": (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x09"),
    "curve": (b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x50"),
}
"""What there may be in a certificate, and odd octets in its place. Its signature doesn't fit then, which is the
client's to see."""


def shown(certificates: tls.Certificates, name: str | None = None) -> x509.Certificate:
    certificate: x509.Certificate = Client(certificates, name).shake_hands().chain[0]
    return certificate


def parse(text: str) -> tls.Certificates:
    found = tls.parse(text)
    assert found is not None
    return found[0]


class TestStrings:
    """What an endpoint's string may say."""

    def test_other_kinds_are_left_alone(self) -> None:
        assert tls.parse("tcp:443") is None
        assert tls.parse("unix:/tls:ssl") is None

    def test_the_endpoint_below(self, certificate: Certificate) -> None:
        path = quoteStringArgument(str(certificate.path))
        folder = quoteStringArgument(str(certificate.path.parent))
        for text, below in (
            (f"ssl:443:privateKey={path}", "tcp:443:interface=:backlog=50"),
            (rf"ssl:port=443:privateKey={path}:interface=\:\:1:backlog=9", r"tcp:443:interface=\:\:1:backlog=9"),
            (f"tls:{folder}", "tcp:443:interface=:backlog=50"),
            (f"tls:{folder}:port=8443:interface=127.0.0.1", "tcp:8443:interface=127.0.0.1:backlog=50"),
        ):
            found = tls.parse(text)
            assert found is not None
            assert found[1] == below

    @pytest.mark.parametrize("text", ["ssl:", "ssl:1:sslmethod=TLSv1_METHOD", "tls", "tls:.:443:50:::too:many", "ssl"])
    def test_what_cant_be_used(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises((ValueError, OSError)):
            tls.parse(text)

    def test_an_argument_that_there_is_not_is_named(self) -> None:
        with pytest.raises(ValueError, match="ssl: got an unexpected keyword argument 'dhParameters'"):
            tls.parse("ssl:1:dhParameters=x")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("tls:", "tls: path"),
            ("tls::port=8443", "tls: path"),
            ("tls:path=", "tls: path"),
            ("tls:.:clientCa=", "tls: clientCa"),
            ("ssl:1:privateKey=", "ssl: privateKey"),
            ("ssl:1:certKey=", "ssl: certKey"),
            ("ssl:1:extraCertChain=", "ssl: extraCertChain"),
            ("ssl:1:clientCa=", "ssl: clientCa"),
        ],
    )
    def test_an_empty_path_is_not_the_working_directory(
        self, text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Certificate(tmp_path / "server.pem")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=f"^{name} is empty$"):
            tls.parse(text)

    def test_a_path_is_that_of_the_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        Certificate(tmp_path / "server.pem")
        monkeypatch.chdir(tmp_path)
        certificates = parse("ssl:0")
        monkeypatch.chdir("/")
        assert certificates.reload()


class TestFiles:
    """What is read from them, and what is said of those that can't be used."""

    def test_a_key_and_a_chain_in_files_of_their_own(self, tmp_path: Path) -> None:
        root = Certificate(tmp_path / "root", ["Root"])
        between = Certificate(tmp_path / "between", ["Between"], issuer=root)
        leaf = Certificate(tmp_path / "leaf", issuer=between)
        (tmp_path / "key").write_bytes(leaf.key_pem)
        (tmp_path / "full").write_bytes(leaf.pem + between.pem)
        (tmp_path / "cert").write_bytes(leaf.pem)
        (tmp_path / "chain").write_bytes(between.pem)
        for text in ("certKey={0}/full", "certKey={0}/cert:extraCertChain={0}/chain"):
            certificates = parse(f"ssl:0:privateKey={tmp_path}/key:{text.format(tmp_path)}")
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
            with pytest.raises(tls.FileFault, match=complaint):
                tls.parse("ssl:0:" + arguments.format(tmp_path))
        assert other.key is not one.key

    def test_what_openssl_refuses(self, tmp_path: Path) -> None:
        weak = Certificate(tmp_path / "weak", key=rsa.generate_private_key(65537, 1024))
        with pytest.raises(
            tls.FileFault, match=r"/weak: the certificate for localhost until .* can't be used: ee key too small"
        ):
            tls.parse(f"ssl:0:privateKey={weak.path}")

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
    def test_a_key_that_no_client_shakes_hands_over(self, make: Callable[[], Any], tmp_path: Path) -> None:
        path = tmp_path / "a.pem"
        old = Certificate(path)
        texts = (f"ssl:0:privateKey={path}", f"tls:{tmp_path}")
        both = [parse(text) for text in texts]
        Certificate(path, key=make(), issuer=Certificate(tmp_path / "root"))
        for text, certificates in zip(texts, both, strict=True):
            for read in (certificates.reload, lambda text=text: tls.parse(text)):
                with pytest.raises(ValueError, match=r"a\.pem: its key is none of RSA .*, ECDSA with P-256, .* Ed448$"):
                    read()
            assert shown(certificates) == old.certificate

    def test_a_certificate_for_pss_alone(self, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "a.pem", key=rsa.generate_private_key(65537, 2048))
        octets = one.certificate.public_bytes(Encoding.DER)
        # The last number of the kind of key, and its parameters: there are none, and then all are left as they are by
        # default.
        before, after = (
            b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01" + rest for rest in (b"\x01\x05\x00", b"\x0a\x30\x00")
        )
        assert before in octets
        one.path.write_text(one.key_pem.decode() + ssl.DER_cert_to_PEM_cert(octets.replace(before, after)))
        for text in (f"ssl:0:privateKey={one.path}", f"tls:{tmp_path}"):
            with pytest.raises(ValueError, match=r"a\.pem: its key is none of RSA \(other than for PSS alone\), "):
                tls.parse(text)

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
    def test_a_key_that_clients_shake_hands_over(self, make: Callable[[], Any], version: int, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "a.pem", key=make(), issuer=Certificate(tmp_path / "root"))
        for text in (f"ssl:0:privateKey={one.path}", f"tls:{tmp_path}"):
            assert Client(parse(text), version=version).shake_hands().chain == [one.certificate]

    def test_parameters_are_left_out(self, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "one")
        one.path.write_bytes(
            b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + one.path.read_bytes()
        )
        assert shown(parse(f"ssl:0:privateKey={one.path}")) == one.certificate


class TestFolder:
    """Which certificate goes with which key, and which is for whom."""

    def test_each_name_has_its_own(self, tmp_path: Path) -> None:
        first = Certificate(tmp_path / "a.pem", ["a.example", "www.a.example"])
        (tmp_path / "below").mkdir()
        other = Certificate(tmp_path / "below" / "b.pem", ["*.b.example", "B.Example"])
        (tmp_path / "README").write_text("no certificate")
        certificates = parse(f"tls:{tmp_path}")
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

    def test_a_certificate_without_names_is_for_those_who_ask_for_none(self, tmp_path: Path) -> None:
        nameless = Certificate(tmp_path / "a.pem", [])
        named = Certificate(tmp_path / "b.pem")
        certificates = parse(f"tls:{tmp_path}")
        assert shown(certificates) == nameless.certificate
        assert shown(certificates, "localhost") == named.certificate
        assert certificates.reload().startswith("no name until ")

    def test_the_newest_is_shown(self, tmp_path: Path) -> None:
        old = Certificate(tmp_path / "a.pem", age=50)
        certificates = parse(f"tls:{tmp_path}")
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
        # Before the right one.
        (tmp_path / "authority.pem").write_bytes(impostor.pem + root.pem)
        certificates = parse(f"tls:{tmp_path}")
        assert Client(certificates).shake_hands().chain == [leaf.certificate, between.certificate]
        (tmp_path / "fullchain.pem").unlink()
        certificates.reload()
        assert Client(certificates).shake_hands().chain == [leaf.certificate]

    def test_folders_that_cant_be_used(self, tmp_path: Path) -> None:
        with pytest.raises(tls.FileFault, match="/none: No such file or directory"):
            tls.parse(f"tls:{tmp_path}/none")
        with pytest.raises(ValueError, match="there is no certificate"):
            tls.parse(f"tls:{tmp_path}")
        one = Certificate(tmp_path / "one.pem")
        one.path.write_bytes(one.key_pem)
        with pytest.raises(ValueError, match=r"one\.pem: there is no certificate for its key"):
            tls.parse(f"tls:{tmp_path}")
        one.path.write_bytes(one.pem)
        with pytest.raises(ValueError, match="there is no certificate with its key"):
            tls.parse(f"tls:{tmp_path}")
        key = x25519.X25519PrivateKey.generate()
        Certificate(tmp_path / "two.pem")
        one.path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(ValueError, match=r"one\.pem"):
            tls.parse(f"tls:{tmp_path}")


class TestReload:
    """New connections have the new files, and nothing is lost over a broken one."""

    @pytest.mark.parametrize("kept", [0, 20, 300, -60, -1700])
    def test_a_file_that_is_not_written_to_its_end(self, kept: int, tmp_path: Path) -> None:
        """Of one name of several, or a list of revocations."""
        ours, other = Certificate(tmp_path / "a.pem", ["a.example"]), Certificate(tmp_path / "b.pem", ["b.example"])
        revoked = Certificate(tmp_path / "revoked", ["gone"], issuer=ours)
        (tmp_path / "trusted").mkdir()
        trusted = tmp_path / "trusted" / "ca"
        trusted.write_bytes(ours.pem + ours.revoke(revoked))
        for path, text in (
            (ours.path, f"tls:{tmp_path}"),
            (trusted, f"ssl:0:privateKey={other.path}:clientCa={trusted}"),
        ):
            certificates = parse(text)
            whole = path.read_bytes()
            path.write_bytes(whole[:kept])
            with pytest.raises(
                ValueError, match=f"{path}: (a part of it is missing|there is nothing in PEM format in it)"
            ):
                certificates.reload()
            path.write_bytes(whole)
        assert Client(parse(f"tls:{tmp_path}"), "a.example").shake_hands().chain == [ours.certificate]

    def test_an_open_connection_goes_on(self, tmp_path: Path) -> None:
        old = Certificate(tmp_path / "a.pem")
        certificates = parse(f"ssl:0:privateKey={old.path}")
        begun, open_ = Client(certificates), Client(certificates).shake_hands()
        new = Certificate(tmp_path / "a.pem")
        assert "localhost until 20" in certificates.reload()
        assert shown(certificates) == new.certificate
        # The one that was in the middle of its handshake, too.
        assert begun.shake_hands().chain == [old.certificate]
        open_.connection.send(b"still here")
        open_.server.bio_write(open_.connection.bio_read(2**16))
        assert open_.server.recv(100) == b"still here"

    @pytest.mark.parametrize("octets", [b"", b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n"])
    def test_the_old_one_stays_when_the_new_one_is_broken(self, tmp_path: Path, octets: bytes) -> None:
        old = Certificate(tmp_path / "a.pem")
        pair, folder = parse(f"ssl:0:privateKey={old.path}"), parse(f"tls:{tmp_path}")
        old.path.write_bytes(octets)
        for certificates in (pair, folder):
            with pytest.raises(ValueError, match=r"certificate|private key|PEM"):
                certificates.reload()
            assert shown(certificates) == old.certificate

    @pytest.mark.parametrize("odd", ODD)
    def test_whatever_is_odd_about_the_new_one_is_one_error(self, tmp_path: Path, odd: str) -> None:
        good, path = Certificate(tmp_path / "good.pem", ["a.example"]), tmp_path / "b.pem"
        other = Certificate(path)
        texts = [f"ssl:0:privateKey={path}", f"tls:{tmp_path}"]
        if odd == "version":  # of authorities no more is looked at than that
            texts.append(f"ssl:0:privateKey={good.path}:clientCa={path}")
        all_ = [parse(text) for text in texts]
        before, after = ODD[odd]
        octets = other.certificate.public_bytes(Encoding.DER)
        assert before in octets
        path.write_text(other.key_pem.decode() + ssl.DER_cert_to_PEM_cert(octets.replace(before, after)))
        for text, certificates in zip(texts, all_, strict=True):
            for read in (certificates.reload, lambda text=text: tls.parse(text)):
                with pytest.raises(ValueError, match=r"b\.pem: .") as error:
                    read()
                assert type(error.value) is tls.FileFault
                assert "\n" not in str(error.value)
            if "clientCa" not in text:
                assert shown(certificates, "localhost") == other.certificate

    def test_an_authority_may_be_odd(self, tmp_path: Path) -> None:
        one, other = Certificate(tmp_path / "one"), Certificate(tmp_path / "other")
        octets = other.certificate.public_bytes(Encoding.DER)
        other.path.write_text(ssl.DER_cert_to_PEM_cert(octets.replace(*ODD["name"])))
        assert parse(f"ssl:0:privateKey={one.path}:clientCa={other.path}").reload()

    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    def test_a_session_from_before_is_no_obstacle(self, tmp_path: Path, version: int) -> None:
        certificates = parse(f"ssl:0:privateKey={Certificate(tmp_path / 'a.pem').path}")
        first = Client(certificates, version=version).shake_hands()
        session = first.connection.get_session()
        assert session is not None
        new = Certificate(tmp_path / "a.pem")
        certificates.reload()
        again = Client(certificates, version=version)
        again.connection = SSL.Connection(first.connection.get_context())
        again.connection.set_connect_state()
        again.connection.set_session(session)
        # A session that went on would have the certificate that it began with.
        assert again.shake_hands().chain == [new.certificate]


class TestClients:
    """`clientCa`: who has no certificate from there doesn't get in."""

    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    def test_who_gets_in(self, tmp_path: Path, version: int) -> None:
        (tmp_path / "server").mkdir()
        server = Certificate(tmp_path / "server" / "server.pem", ["a.example"])
        Certificate(tmp_path / "server" / "z.pem", ["z.example"])
        authority, other = Certificate(tmp_path / "authority", ["Ours"]), Certificate(tmp_path / "other", ["Others'"])
        good, bad = (
            Certificate(tmp_path / issuer.path.stem, ["client"], issuer=issuer) for issuer in (authority, other)
        )
        revoked = Certificate(tmp_path / "revoked", ["gone"], issuer=authority)
        trusted = tmp_path / "trusted"
        trusted.write_bytes(authority.pem)
        for text, name in ((f"ssl:0:privateKey={server.path}", None), (f"tls:{tmp_path}/server", "z.example")):
            trusted.write_bytes(authority.pem)
            certificates = parse(f"{text}:clientCa={trusted}")
            for client in (good, revoked):
                end = Client(certificates, name, version=version, certificate=client).shake_hands()
                assert end.server.get_peer_certificate(as_cryptography=True) == client.certificate
            for refused in (None, bad):
                with pytest.raises(SSL.Error):
                    Client(certificates, name, version=version, certificate=refused).shake_hands()
            trusted.write_bytes(authority.pem + authority.revoke(revoked))
            certificates.reload()
            Client(certificates, name, version=version, certificate=good).shake_hands()
            with pytest.raises(SSL.Error):
                Client(certificates, name, version=version, certificate=revoked).shake_hands()

    def test_authorities_and_revocations_are_of_one_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Though it is replaced as soon as it was read."""
        server, authority = Certificate(tmp_path / "server"), Certificate(tmp_path / "authority", ["Ours"])
        revoked = Certificate(tmp_path / "revoked", ["gone"], issuer=authority)
        trusted = tmp_path / "trusted"
        trusted.write_bytes(authority.pem)
        certificates = parse(f"ssl:0:privateKey={server.path}:clientCa={trusted}")
        trusted.write_bytes(authority.pem + authority.revoke(revoked))
        read_bytes = Path.read_bytes

        def read(path: Path) -> bytes:
            octets = read_bytes(path)
            if path == trusted:
                trusted.write_bytes(authority.pem)
            return octets

        monkeypatch.setattr(Path, "read_bytes", read)
        certificates.reload()
        with pytest.raises(SSL.Error):
            Client(certificates, certificate=revoked).shake_hands()

    def test_a_browser_is_told_which_certificate_to_show(self, tmp_path: Path) -> None:
        one = Certificate(tmp_path / "one", ["Ours"])
        client = Client(parse(f"ssl:0:privateKey={one.path}:clientCa={one.path}"), certificate=one).shake_hands()
        assert [name.CN for name in client.connection.get_client_ca_list()] == ["Ours"]


@pytest.mark.parametrize(("offered", "chosen"), [([b"h2", b"http/1.1"], b"http/1.1"), (None, b"")])
def test_the_protocol(certificate: Certificate, offered: list[bytes] | None, chosen: bytes) -> None:
    client = Client(parse(f"ssl:0:privateKey={certificate.path}"), protocols=offered).shake_hands()
    assert client.connection.get_alpn_proto_negotiated() == chosen


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("name", [None, "second"])
def test_other_protocols_alone_are_answered_with_an_alert(tmp_path: Path, version: int, name: str | None) -> None:
    for own in ("first", "second"):
        Certificate(tmp_path / f"{own}.pem", [own])
    certificates = parse(f"tls:{tmp_path}:0")
    client = Client(certificates, name, protocols=[b"h2", b"acme-tls/1"], version=version)
    with pytest.raises(SSL.Error) as error:
        client.shake_hands()
    assert tls_fault(error.value) == "no application protocol"
    client.connection.bio_write(client.server.bio_read(2**14))
    with pytest.raises(SSL.Error, match="alert no application protocol"):
        client.connection.do_handshake()
    # Nothing is left behind that the next connection would be taken to fail with.
    Client(certificates, name, protocols=[tls.PROTOCOL], version=version).shake_hands()


def test_what_clients_have_against_a_certificate(tmp_path: Path) -> None:
    def fault(age: float = 1, rest: float = 24) -> str | None:
        return tls.read_folder(Certificate(tmp_path / "a.pem", age=age, rest=rest).path.parent)[0].fault

    assert fault() is None
    assert fault(age=2, rest=-1) == "has expired"
    begin = datetime.now(UTC) + timedelta(hours=1)
    found = fault(age=-1)
    assert found in {f"is not valid before {begin + timedelta(minutes=late):%Y-%m-%d %H:%M} UTC" for late in (0, 1)}


def test_when_they_end(tmp_path: Path) -> None:
    """Those that are shown, and of two for the same names the first to end; of other endpoints there is nothing to
    tell."""
    (tmp_path / "folder").mkdir()
    first = Certificate(tmp_path / "folder" / "a.pem", ["a.example", "b.example"], age=2, rest=1)
    Certificate(tmp_path / "folder" / "b.pem", ["a.example", "b.example"], age=1)
    Certificate(tmp_path / "folder" / "c.pem", ["c.example"], age=2, rest=-1)
    newer = Certificate(tmp_path / "folder" / "d.pem", ["c.example"], age=1)
    nameless = Certificate(tmp_path / "nameless.pem", [])
    texts = [f"tls:{tmp_path}/folder:port=0", f"ssl:0:privateKey={nameless.path}", "tcp:0"]
    assert tls.ends([(text, parse_endpoint(REAL, text)) for text in texts]) == {
        (texts[0], "a.example, b.example"): first.certificate.not_valid_after_utc.timestamp(),
        (texts[0], "c.example"): newer.certificate.not_valid_after_utc.timestamp(),
        (texts[1], "no name"): nameless.certificate.not_valid_after_utc.timestamp(),
    }


class Answering(Protocol):
    """Answers whatever comes with who sent it."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data + f" from {transport.getPeer().host}".encode())
        transport.loseConnection()


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_the_endpoint_listens(prefix: str, certificate: Certificate) -> Generator[Any, Any, None]:
    """Also behind a proxy that sends its header in the clear, before the client's hello."""
    endpoint = parse_endpoint(REAL, f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    port: Any = yield endpoint.listen(Factory.forProtocol(Answering))
    try:
        header = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 443\r\n" if prefix else b""
        answer = yield deferToThread(ask, port.getHost().port, header, certificate)
    finally:
        yield port.stopListening()
    assert answer == (b"hello from 203.0.113.7" if prefix else b"hello from 127.0.0.1")


@pytest_twisted.inlineCallbacks
def test_why_a_header_was_refused_is_told_through_tls(certificate: Certificate) -> Generator[Any, Any, None]:
    endpoint = parse_endpoint(REAL, f"haproxy:ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    factory = make_factory(REAL)
    port: Any = yield endpoint.listen(factory)
    with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x02\x00")
        assert (yield deferToThread(client.recv, 1)) == b""
    yield gatherResults([port.stopListening(), factory.drain()])
    assert factory.counts.refusals == {("none", "bad PROXY header"): 1}


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_a_reset_comes_behind_the_echo_also_below_the_header(
    prefix: str, certificate: Certificate
) -> Generator[Any, Any, None]:
    endpoint = parse_endpoint(REAL, f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    factory = make_factory(REAL)
    port: Any = yield endpoint.listen(factory)
    header = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 443\r\n" if prefix else b""
    echo = yield deferToThread(ask_for_reset, port.getHost().port, header, certificate)
    yield gatherResults([port.stopListening(), factory.drain()])
    assert echo == server_frame(TEXT, b"hello")


def ask_for_reset(port: int, header: bytes, certificate: Certificate) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with certificate.client().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(handshake("/?abort&after=1"))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += client.recv(1000)
            client.sendall(client_frame(TEXT, b"hello"))
            return client.recv(100)


def ask(port: int, header: bytes, certificate: Certificate) -> bytes:
    context = certificate.client()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"hello")
            answer = b""
            while piece := client.recv(100):
                answer += piece
            return answer


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_a_client_without_a_protocol_in_common_is_told_so(
    prefix: str, certificate: Certificate
) -> Generator[Any, Any, None]:
    endpoint = parse_endpoint(REAL, f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    factory = make_factory(REAL)
    port: Any = yield endpoint.listen(factory)
    header = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 443\r\n" if prefix else b""
    why = yield deferToThread(fail_over_protocol, port.getHost().port, header, certificate)
    yield gatherResults([port.stopListening(), factory.drain()])
    assert "ALERT_NO_APPLICATION_PROTOCOL" in why.upper().replace(" ", "_")
    assert factory.counts.refusals == {("none", "TLS failed"): 1}


def fail_over_protocol(port: int, header: bytes, certificate: Certificate) -> str:
    context = certificate.client()
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with pytest.raises(ssl.SSLError) as error:
            context.wrap_socket(plain, server_hostname="localhost")
        return str(error.value)

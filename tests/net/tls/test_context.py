"""What a connection over TLS negotiates, and what it asks of a client."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from OpenSSL import SSL

from echod.net.tls.context import PROTOCOL
from echod.settings import Http2Mode
from echod.upstream.tls_sessions import tls_fault
from tests.fakes import make_factory
from tests.net.tls.certificates import certificates_of
from tests.tls import Certificate, Client


class TestClients:
    """`clientCa`: a client needs a certificate from one of its authorities."""

    @pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
    def test_which_clients_get_in(self, tmp_path: Path, version: int) -> None:
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
            certificates = certificates_of(f"{text}:clientCa={trusted}")
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

    def test_authorities_and_revocations_come_from_one_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """This holds even if the file is replaced right after it was read."""
        server, authority = Certificate(tmp_path / "server"), Certificate(tmp_path / "authority", ["Ours"])
        revoked = Certificate(tmp_path / "revoked", ["gone"], issuer=authority)
        trusted = tmp_path / "trusted"
        trusted.write_bytes(authority.pem)
        certificates = certificates_of(f"ssl:0:privateKey={server.path}:clientCa={trusted}")
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
        client = Client(
            certificates_of(f"ssl:0:privateKey={one.path}:clientCa={one.path}"), certificate=one
        ).shake_hands()
        assert [name.CN for name in client.connection.get_client_ca_list()] == ["Ours"]


@pytest.mark.parametrize(("offered", "chosen"), [([b"h2", b"http/1.1"], b"http/1.1"), (None, b"")])
def test_the_protocol(certificate: Certificate, offered: list[bytes] | None, chosen: bytes) -> None:
    client = Client(certificates_of(f"ssl:0:privateKey={certificate.path}"), protocols=offered).shake_hands()
    assert client.connection.get_alpn_proto_negotiated() == chosen


@pytest.mark.parametrize(
    ("mode", "offered", "chosen"),
    [
        (Http2Mode.ON, [b"http/1.1", b"h2"], b"h2"),
        (Http2Mode.NO_WEBSOCKET, [b"h2"], b"h2"),
        (Http2Mode.ON, [b"http/1.1"], b"http/1.1"),
        (Http2Mode.OFF, [b"h2", b"http/1.1"], b"http/1.1"),
        (Http2Mode.OFF, None, b""),
    ],
)
def test_the_factory_above_says_which_protocols_there_are(
    certificate: Certificate, mode: Http2Mode, offered: list[bytes] | None, chosen: bytes
) -> None:
    protocol = SimpleNamespace(factory=SimpleNamespace(wrappedFactory=make_factory(http2=mode)))
    client = Client(certificates_of(f"ssl:0:privateKey={certificate.path}"), None, protocol, protocols=offered)
    assert client.shake_hands().connection.get_alpn_proto_negotiated() == chosen


@pytest.mark.parametrize("version", [SSL.TLS1_2_VERSION, SSL.TLS1_3_VERSION])
@pytest.mark.parametrize("name", [None, "second"])
def test_a_client_without_our_protocol_gets_an_alert(tmp_path: Path, version: int, name: str | None) -> None:
    for own in ("first", "second"):
        Certificate(tmp_path / f"{own}.pem", [own])
    certificates = certificates_of(f"tls:{tmp_path}:0")
    client = Client(certificates, name, protocols=[b"h2", b"acme-tls/1"], version=version)
    with pytest.raises(SSL.Error) as error:
        client.shake_hands()
    assert tls_fault(error.value) == "no application protocol"
    client.connection.bio_write(client.server.bio_read(2**14))
    with pytest.raises(SSL.Error, match="alert no application protocol"):
        client.connection.do_handshake()
    # No error is left in OpenSSL's queue, where the next connection would find it.
    Client(certificates, name, protocols=[PROTOCOL], version=version).shake_hands()

"""Certificates and keys made on the spot, by themselves or from an authority, with revocations; and a client in memory."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from websockets.exceptions import InvalidMessage
from websockets.sync.client import ClientConnection, connect


def connect_over_tls(url: str, **options: Any) -> ClientConnection:
    """Connect with websockets' threaded client, which uses an SSL object from two threads at once.

    Python's ssl keeps them apart from 3.13 on; before, one opening handshake in some 600 finds no answer, while 13,000 of one
    thread's, looked at for that, all found theirs. So there is a second try.
    """
    client: ClientConnection
    try:
        client = connect(url, **options)
    except InvalidMessage as error:
        if not isinstance(error.__cause__, EOFError):
            raise
        client = connect(url, **options)
    return client


class Certificate:
    """A certificate and its key, in one PEM file. Each can issue others."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str] = ("localhost",),
        *,
        issuer: Certificate | None = None,
        key: Any = None,
        age: float = 1,
    ) -> None:
        """Make them in `path`, for these names of hosts, by `issuer` or self-signed, with a new key or this; `age` is in hours."""
        self.path = path
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0] if names else path.stem)])
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name((issuer or self).name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=age))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())
        path.write_bytes(self.key_pem + self.pem)

    @property
    def pem(self) -> bytes:
        """The certificate alone."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key alone."""
        encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        pem: bytes = self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_encryption)
        return pem

    def revoke(self, other: Certificate) -> bytes:
        """Return a list of revocations with the one in it that this one issued."""
        now = datetime.datetime.now(datetime.UTC)
        revoked = x509.RevokedCertificateBuilder().serial_number(other.certificate.serial_number).revocation_date(now).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(now - datetime.timedelta(hours=1))
        revocations = builder.next_update(now + datetime.timedelta(days=1)).add_revoked_certificate(revoked).sign(self.key, hashes.SHA256())
        return revocations.public_bytes(serialization.Encoding.PEM)

    def server_options(self) -> Any:
        """Return the context factory of a Twisted server."""
        from twisted.internet.ssl import PrivateCertificate  # noqa: PLC0415 - not for the conformance tests, which know no Twisted

        return PrivateCertificate.loadPEM(self.path.read_bytes()).options()

    def client(self) -> ssl.SSLContext:
        """Return the context of a client that trusts it."""
        return ssl.create_default_context(cafile=str(self.path))


class Client:
    """The end of a handshake in memory: what the server showed, or what either end failed with."""

    def __init__(self, creator: Any, name: str | None = None, protocol: Any = None, **wishes: Any) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(wishes.get("version", SSL.TLS1_3_VERSION))
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        if own := wishes.get("certificate"):
            context.use_certificate(own.certificate)
            context.use_privatekey(own.key)
        if protocols := wishes.get("protocols"):
            context.set_alpn_protos(protocols)
        self.connection = SSL.Connection(context)
        if name is not None:
            self.connection.set_tlsext_host_name(name.encode())
        self.connection.set_connect_state()
        self.server = creator.serverConnectionForTLS(protocol)
        self.server.set_accept_state()
        self.server.set_app_data(protocol)

    def shake_hands(self) -> Client:
        """Carry octets between the two ends until both are done; raises `SSL.Error`."""
        ends = (self.connection, self.server)
        done: set[SSL.Connection] = set()
        while len(done) < 2:
            for one, other in (ends, ends[::-1]):
                try:
                    one.do_handshake()
                    done.add(one)
                except SSL.WantReadError:
                    pass
                try:
                    while True:
                        other.bio_write(one.bio_read(2**16))
                except SSL.WantReadError:
                    pass
        return self

    @property
    def chain(self) -> list[Any]:
        """The certificates that the server sent."""
        return list(self.connection.get_peer_cert_chain(as_cryptography=True) or [])

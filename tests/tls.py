"""Makes certificates, self-signed or issued by an authority, and lists of revocations; and runs TLS handshakes in
memory."""

from __future__ import annotations

import datetime
import math
import select
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL


class OneAtATime(ssl.SSLSocket):
    """A TLS socket that one thread may read while another writes, as websockets' threaded client does.

    Before Python 3.13 its own TLS socket does not allow that: both threads then use one OpenSSL session at once. If the
    server's session tickets arrive while the request is sent, the session breaks, or AddressSanitizer reports a use
    after free.
    """

    _turn = threading.Lock()

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive some bytes."""
        octets: bytes = self._when_it_can(super().recv, buflen, flags)
        return octets

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all bytes."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._when_it_can(super().send, rest, flags) :]

    def _when_it_can(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Call without blocking inside OpenSSL, where the other thread would have to wait, too; raises
        `TimeoutError`."""
        began = time.monotonic()
        while True:
            with self._turn:
                timeout = self.gettimeout()
                self.settimeout(0)
                try:
                    return call(*arguments)
                except ssl.SSLWantReadError:
                    event = select.POLLIN
                except ssl.SSLWantWriteError:
                    event = select.POLLOUT
                finally:
                    self.settimeout(timeout)
            left = math.inf if timeout is None else began + timeout - time.monotonic()
            if left <= 0:
                raise TimeoutError("no data could be received or sent in time")
            poll = select.poll()
            poll.register(self, event)
            # Wait only for a short time: nothing wakes this thread when the other one closes the socket.
            poll.poll(1000 * min(left, 0.1))


def trusting(**certificates: Any) -> ssl.SSLContext:
    """Return a client context that trusts these certificates; the arguments are those of
    `ssl.create_default_context`."""
    context = ssl.create_default_context(**certificates)
    context.sslsocket_class = OneAtATime
    return context


class Certificate:
    """A certificate and its key in one PEM file. Each certificate can issue others."""

    def __init__(
        self,
        path: Path,
        names: Sequence[str] = ("localhost",),
        *,
        issuer: Certificate | None = None,
        key: Any = None,
        age: float = 1,
        rest: float = 24,
    ) -> None:
        """Make the certificate and its key in the file `path`, for the host names `names`.

        The certificate is issued by `issuer`, or self-signed. Its key is `key`, or a new one. It has been valid for
        `age` hours, and will be for `rest` hours; each may be negative.
        """
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
            .not_valid_after(now + datetime.timedelta(hours=rest))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
            )
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())
        path.write_bytes(self.key_pem + self.pem)

    @property
    def pem(self) -> bytes:
        """The certificate without the key."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key without the certificate."""
        encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        pem: bytes = self.key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_encryption)
        return pem

    def revoke(self, other: Certificate) -> bytes:
        """Return a revocation list that revokes `other`, which this certificate issued."""
        now = datetime.datetime.now(datetime.UTC)
        revoked = (
            x509.RevokedCertificateBuilder().serial_number(other.certificate.serial_number).revocation_date(now).build()
        )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(now - datetime.timedelta(hours=1))
        )
        revocations = (
            builder.next_update(now + datetime.timedelta(days=1))
            .add_revoked_certificate(revoked)
            .sign(self.key, hashes.SHA256())
        )
        return revocations.public_bytes(serialization.Encoding.PEM)

    def server_options(self) -> Any:
        """Return the context factory of a Twisted server."""
        # imported here because the conformance tests use this module without Twisted
        from twisted.internet.ssl import PrivateCertificate  # noqa: PLC0415

        return PrivateCertificate.loadPEM(self.path.read_bytes()).options()

    def client(self) -> ssl.SSLContext:
        """Return a client context that trusts this certificate."""
        return trusting(cadata=self.pem.decode())


class Client:
    """The client's end of a TLS handshake in memory: what the server showed, or how either end failed."""

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
        """Carry bytes between the two ends until both have finished; raises `SSL.Error`."""
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

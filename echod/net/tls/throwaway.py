"""`throwaway:` endpoints: certificates made at start, by an authority that is made at start, too.

The authority's key exists only in the process that makes it, and only while it makes certificates: nothing else will
ever be issued by an authority that a client was told to trust. Workers get the finished certificates.

Knows how such a certificate is made, and what each fault has wrong. Must never know endpoint strings or files.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import idna
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from echod.net.tls.context import CIPHERS, make_context

if TYPE_CHECKING:
    import trustme

LIFETIME = timedelta(days=365)
"""How long a certificate is valid after the start. Apple's systems refuse more than 825 days, whoever the issuer is
(Apple's document HT210176)."""

SKEW = timedelta(days=1)
"""How long a certificate has been valid at the start: the clocks of clients, such as containers and phones, differ."""

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
"""The names that every certificate has. The machine's own name is added to them."""

WRONG_NAME = "wrong-name.invalid"
"""The only name of a certificate with that fault. It belongs to nobody (RFC 2606 section 2)."""

ORGANIZATION = "echod throwaway"
"""What a list of authorities shows, such as a browser's."""

_WEAK_PRIMES = (
    0xFBC3BEB5E2F7F464ED24A2516A50826133763FA23FD8339C83CBCB315A450E310CEBA7BA156CAEBF18D7C9A59F1A9ABD,
    0xF1E8D9942F52CEFC96DFB0DCB01E03D72ABF81B6E189FA8F35CE22BF647429A0D71A066603EC78744B4A6403FCFEFEA9,
)
"""Two primes of 384 bits, and so an RSA key of 768: many clients still accept 1,024. cryptography makes no such key. It
may stand here because it protects nothing: a key of this size was factored in 2009."""


class Fault(StrEnum):
    """What is wrong with a certificate, or with the TLS that shows it; everything else is right."""

    EXPIRED = "expired"
    """It ended a day before the start."""
    NOT_YET = "not-yet"
    """It begins a year after the start."""
    WRONG_NAME = "wrong-name"
    """It is for another name."""
    SELF_SIGNED = "self-signed"
    """No authority issued it: its own key did."""
    UNKNOWN_AUTHORITY = "unknown-authority"
    """An authority issued it that nobody can know."""
    TLS_1_2 = "tls1.2"
    """The certificate is right, but TLS 1.3 is not spoken."""
    WEAK_KEY = "weak-key"
    """Its key is RSA with 768 bits."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an endpoint asks for."""

    names: tuple[str, ...] = ()
    """Names and addresses in addition to those that every certificate has."""
    fault: Fault | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """What an authority has issued, as text in PEM format. The parent of workers makes it, and hands it on to them."""

    authority: str = ""
    """The certificate of the authority; empty if no endpoint needs one."""
    identities: Mapping[str, str] = field(default_factory=dict)
    """A key followed by its certificate, by the string of the endpoint."""


class Authority:
    """Issues a certificate for each endpoint that asks, once."""

    def __init__(self, issued: Issued | None = None) -> None:
        """Begin with what was `issued` already, by the authority of the parent."""
        self._pem = "" if issued is None else issued.authority
        self._identities = {} if issued is None else dict(issued.identities)
        self._maker: trustme.CA | None = None

    @property
    def issued(self) -> Issued:
        """What has been issued so far."""
        return Issued(self._pem, dict(self._identities))

    def serve(self, endpoint: str, wanted: Wanted) -> Throwaway:
        """Return the TLS of an endpoint, by the endpoint's string."""
        if endpoint not in self._identities:
            self._identities[endpoint] = self._issue(wanted)
        return Throwaway(self._identities[endpoint], wanted.fault)

    def _issue(self, wanted: Wanted) -> str:
        maker = self._maker
        if maker is None:
            maker = self._maker = _make_authority()
            self._pem = maker.cert_pem.bytes().decode()
        if wanted.fault is Fault.UNKNOWN_AUTHORITY:
            maker = _make_authority()
        names = (WRONG_NAME,) if wanted.fault is Fault.WRONG_NAME else _names(wanted.names)
        begin, end = _period(wanted.fault, datetime.now(UTC))
        leaf = maker.issue_cert(*names, organization_name=ORGANIZATION, not_before=begin, not_after=end)
        key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
        certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
        if wanted.fault is Fault.SELF_SIGNED:
            certificate = _issue_again(certificate, certificate.subject, key, key)
        elif wanted.fault is Fault.WEAK_KEY:
            key = _weak_key()
            issuer_key = load_pem_private_key(maker.private_key_pem.bytes(), None)
            certificate = _issue_again(certificate, certificate.issuer, key, issuer_key)
        key_text: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (key_text + certificate.public_bytes(Encoding.PEM)).decode()


@implementer(IOpenSSLServerConnectionCreator)
class Throwaway:
    """What the connections of one endpoint show; a reload leaves it alone."""

    def __init__(self, identity: str, fault: Fault | None) -> None:
        """`identity` is a key followed by its certificate."""
        self.certificate = x509.load_pem_x509_certificate(identity.encode())
        self.fault = fault
        key = load_pem_private_key(identity.encode(), None)
        # OpenSSL itself refuses a weak key, unless its security level is 0.
        ciphers = f"{CIPHERS}:@SECLEVEL=0" if fault is Fault.WEAK_KEY else CIPHERS
        self._context = make_context(key, [self.certificate], None, ciphers)
        if fault is Fault.TLS_1_2:
            self._context.set_max_proto_version(SSL.TLS1_2_VERSION)

    @property
    def names(self) -> tuple[str, ...]:
        """The names and addresses in the certificate."""
        found = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(name.value) for name in found)

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: ARG002  # as the interface has it
        """Begin a connection."""
        return SSL.Connection(self._context)


def is_own_authority(octets: bytes) -> bool:
    """Tell whether this is the PEM of an authority that echod made, and nothing else."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(octets)
    except ValueError:
        return False
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return b"PRIVATE KEY" not in octets and [name.value for name in names] == [ORGANIZATION]


def parse_name(text: str) -> str:
    """Return a host name, perhaps with a wildcard as its first label, or an IP address, as a certificate has it.

    Raises `ValueError`.
    """
    with suppress(ValueError):
        return str(ip_address(text))
    first, dot, rest = text.partition("*.") if text.startswith("*.") else ("", "", text)
    try:
        return f"{first}{dot}{idna.encode(rest, uts46=True).decode()}"
    except idna.IDNAError as error:
        raise ValueError(f"{text!r} is neither a host name nor an IP address") from error


def _names(others: Sequence[str]) -> tuple[str, ...]:
    own: list[str] = []
    with suppress(ValueError):  # the machine may be called something that no certificate can have, such as my_host
        own.append(parse_name(socket.gethostname()))
    return tuple(dict.fromkeys([*LOCAL_NAMES, *own, *others]))


def _period(fault: Fault | None, now: datetime) -> tuple[datetime, datetime]:
    """Return when a certificate begins and ends that is issued now."""
    match fault:
        case Fault.EXPIRED:
            return now - SKEW - LIFETIME, now - SKEW
        case Fault.NOT_YET:  # the daemon may run for months until then
            return now + LIFETIME, now + 2 * LIFETIME
        case _:
            return now - SKEW, now + LIFETIME


def _make_authority() -> trustme.CA:
    # Imported here: it takes a few milliseconds, and most daemons have no such endpoint.
    import trustme  # noqa: PLC0415

    return trustme.CA(path_length=0, organization_name=ORGANIZATION)


def _issue_again(like: x509.Certificate, issuer: x509.Name, key: Any, issuer_key: Any) -> x509.Certificate:
    """Return a certificate for `key` that has everything else of `like`, signed with the key of `issuer`."""
    builder = x509.CertificateBuilder(
        issuer,
        like.subject,
        key.public_key(),
        x509.random_serial_number(),
        like.not_valid_before_utc,
        like.not_valid_after_utc,
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    for extension in like.extensions:
        if isinstance(extension.value, x509.SubjectKeyIdentifier):
            continue
        if isinstance(extension.value, x509.AuthorityKeyIdentifier) and issuer != like.issuer:
            continue
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(issuer_key, SHA256())


def _weak_key() -> rsa.RSAPrivateKey:
    p, q = _WEAK_PRIMES
    public = rsa.RSAPublicNumbers(65537, p * q)
    d = rsa.rsa_recover_private_exponent(public.e, p, q)
    dmp1, dmq1, iqmp = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, public).private_key()

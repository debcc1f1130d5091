"""`ssl:` and `tls:` endpoints: certificates from files, chosen by name (SNI), and read again while connections stay
open.

Twisted's own never read a renewed file again, leave out what follows the first certificate of a `certKey`, can't ask a
client for one, and take key exchanges without forward secrecy. The strings are Twisted's, and so is what becomes of a
folder's files.

Knows PEM files and OpenSSL's contexts. Must never know WebSocket, or which endpoint is below.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import PublicKeyAlgorithmOID
from OpenSSL import SSL, crypto
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from echod.upstream import endpoints, tls_sessions

CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
"""Of TLS 1.2, those with forward secrecy and authenticated encryption: Mozilla's "intermediate" list without finite
fields. All of TLS 1.3's are such."""

GROUPS = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")
"""For the key exchange: Mozilla's, and before them, where OpenSSL has it (3.5), one that a quantum computer won't
break."""

KEYS = (PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5, PublicKeyAlgorithmOID.ED25519, PublicKeyAlgorithmOID.ED448)
"""Those that TLS 1.3 has signatures for (RFC 8446 section 4.2.3), with the elliptic curves below. OpenSSL takes others,
and then fails every handshake over them. RSA for PSS alone is such a one here: cryptography reads it as any RSA key,
which doesn't fit its certificate."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")

PROTOCOL = b"http/1.1"
"""The one for ALPN (RFC 7301), which browsers offer for `wss://`. Twisted's own answer to any offer is the alert
"internal error"."""

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises over a file's content, some of it only when a part is asked for. TypeError: a key behind a
passphrase."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


class FileFault(ValueError):
    """A file that an endpoint names can't be used; the message begins with its path."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A key with its certificate, and behind that the certificates of its issuers."""

    path: Path
    """The certificate's file."""
    key: Any
    chain: tuple[x509.Certificate, ...]
    names: tuple[str, ...]
    """The host names of the certificate, as SNI has them."""

    def __str__(self) -> str:
        """Tell the names, and when the certificate ends."""
        return f"{self.called} until {_minute(self.chain[0].not_valid_after_utc)}"

    @property
    def called(self) -> str:
        """The names as a person reads them."""
        return ", ".join(self.names) or "no name"

    @property
    def fault(self) -> str | None:
        """What clients have against it at this time, in words to go behind it; None: nothing."""
        now, certificate = datetime.now(UTC), self.chain[0]
        if now > certificate.not_valid_after_utc:
            return "has expired"
        if now < certificate.not_valid_before_utc:
            return f"is not valid before {_minute(certificate.not_valid_before_utc)}"
        return None


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Pem:
    """What a PEM file holds. Blocks of another kind, such as parameters, are left out."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[Any, ...]
    revocations: tuple[x509.CertificateRevocationList, ...]


def read_pem(path: Path) -> Pem:
    """Read a PEM file; raises `ValueError` or `OSError`, and both name it: also where a block is cut, for the file is
    being written."""
    octets = path.read_bytes()
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(octets)]
    with _reading(path):
        if not blocks:
            raise ValueError("there is nothing in PEM format in it")
        if octets.count(b"-----BEGIN ") != len(blocks) or octets.count(b"-----END ") != len(blocks):
            raise ValueError("a part of it is missing")
        return Pem(
            tuple(x509.load_pem_x509_certificate(text) for kind, text in blocks if kind == b"CERTIFICATE"),
            tuple(load_pem_private_key(text, None) for kind, text in blocks if kind.endswith(b"PRIVATE KEY")),
            tuple(x509.load_pem_x509_crl(text) for kind, text in blocks if kind == b"X509 CRL"),
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Have whatever is wrong in a file be a `ValueError` that names it."""
    try:
        yield
    except _UNREADABLE as error:
        raise ValueError(f"{path}: {error}") from error


def read_pair(key_path: Path, certificate_path: Path, chain_path: Path | None) -> list[Identity]:
    """Read the files that an `ssl:` endpoint names; raises `ValueError` or `OSError`."""
    keys = read_pem(key_path).keys
    if not keys:
        raise ValueError(f"{key_path}: there is no private key in it")
    chain = read_certificates(certificate_path).certificates
    if chain_path is not None:
        chain += read_certificates(chain_path).certificates
    with _reading(key_path):
        public = _public(keys[0])
    with _reading(certificate_path):
        if public != _public(chain[0]):
            raise ValueError(f"its certificate is not for the key in {key_path}")
        return [_identify(certificate_path, keys[0], chain)]


def read_certificates(path: Path) -> Pem:
    """Read a file of certificates; raises `ValueError` or `OSError`, also when there is none."""
    pem = read_pem(path)
    if not pem.certificates:
        raise ValueError(f"{path}: there is no certificate in it")
    return pem


def read_folder(folder: Path) -> list[Identity]:
    """Read every `*.pem` in and below `folder`; raises `ValueError` or `OSError`.

    However it is spread over files, a key goes with each certificate for it, the newest first, and that with its
    issuers.
    """
    files = {path: read_pem(path) for path in _find(folder)}
    by_key: dict[bytes, list[x509.Certificate]] = defaultdict(list)
    issuers: dict[x509.Name, list[x509.Certificate]] = defaultdict(list)
    places: dict[x509.Certificate, Path] = {}
    for path, certificate in ((path, certificate) for path, file in files.items() for certificate in file.certificates):
        if certificate not in places:
            places[certificate] = path
            with _reading(path):
                by_key[_public(certificate)].append(certificate)
                if certificate.subject != certificate.issuer:
                    issuers[certificate.subject].append(certificate)
    identities = []
    seen: set[bytes] = set()
    for path, key in ((path, key) for path, file in files.items() for key in file.keys):
        with _reading(path):
            public = _public(key)
        if public not in by_key:
            # It may be about to come: to go on without would be to lose the name that it is for.
            raise ValueError(f"{path}: there is no certificate for its key")
        if public not in seen:
            for own in sorted(by_key[public], key=_rank, reverse=True):
                with _reading(places[own]):
                    identities.append(_identify(places[own], key, _chain(own, issuers)))
            seen.add(public)
    if not identities:
        raise ValueError(f"{folder}: there is no certificate with its key in a *.pem of that folder")
    return identities


def _find(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names) if name.endswith(".pem"))


def _raise(error: OSError) -> NoReturn:
    raise error


def _public(holder: Any) -> bytes:
    return cast(bytes, holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _identify(path: Path, key: Any, chain: tuple[x509.Certificate, ...]) -> Identity:
    own = chain[0].public_key()
    if not (
        chain[0].public_key_algorithm_oid in KEYS
        or (isinstance(own, EllipticCurvePublicKey) and own.curve.name in CURVES)
    ):
        raise ValueError(
            "its key is none of RSA (other than for PSS alone), ECDSA with P-256, P-384 or P-521, Ed25519 and Ed448"
        )
    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Identity(path, key, chain, ())
    return Identity(path, key, chain, tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)))


def _rank(certificate: x509.Certificate) -> tuple[bool, datetime]:
    begin = certificate.not_valid_before_utc
    return begin <= datetime.now(UTC), begin


def _chain(
    certificate: x509.Certificate, issuers: Mapping[x509.Name, Sequence[x509.Certificate]]
) -> tuple[x509.Certificate, ...]:
    """Return `certificate` and its issuers. The authority's own is not among these: who trusts that one has it."""
    chain = [certificate]
    while chain[-1].issuer != chain[-1].subject:
        others = (other for other in issuers.get(chain[-1].issuer, ()) if other not in chain)
        issuer = next((other for other in others if _is_issuer(other, chain[-1])), None)
        if issuer is None:
            break
        chain.append(issuer)
    return tuple(chain)


def _is_issuer(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


@implementer(IOpenSSLServerConnectionCreator)
class Certificates:
    """What new connections show, and what they ask of a client; `reload` takes what the files hold by then."""

    def __init__(self, read: Callable[[], list[Identity]], client_ca: Path | None) -> None:
        """Read by `read`, and `client_ca`, a file of authorities and perhaps revocation lists; raises `FileFault`."""
        self.used: tuple[Identity, ...] = ()
        """Those that clients may be shown, and first the one for a client that says no name, or another."""
        self._read = read
        self._client_ca = client_ca
        self.reload()

    def reload(self) -> str:
        """Read the files again, and tell what is in them; after a `FileFault` all is as before."""
        try:
            identities = self._read()
            clients = None if self._client_ca is None else read_certificates(self._client_ca)
        except OSError as error:
            raise FileFault(f"{error.filename}: {error.strerror}") from error
        except ValueError as error:
            raise FileFault(" ".join(str(error).split())) from error
        best: dict[str, Identity] = {}
        for identity in identities:
            for name in identity.names:
                if name not in best or _rank(best[name].chain[0]) < _rank(identity.chain[0]):
                    best[name] = identity
        used = tuple(dict.fromkeys([identities[0], *best.values()]))
        contexts: dict[Identity, SSL.Context] = {}
        for identity in used:
            try:
                contexts[identity] = _make_context(identity, clients)
            except (SSL.Error, crypto.Error, TypeError) as error:
                raise FileFault(
                    f"{identity.path}: the certificate for {identity} can't be used: {_reason(error)}"
                ) from error
        first = contexts[identities[0]]
        _choose_by_name(first, {name: contexts[identity] for name, identity in best.items()})
        self._context, self.used = first, used
        return "; ".join(map(str, used))

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:  # noqa: ARG002  # as the interface has it
        """Begin a connection."""
        return SSL.Connection(self._context)


def _make_context(identity: Identity, clients: Pem | None) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # No tickets and no cache: there is no key to rotate, and a client's certificate is looked at each time. No
    # renegotiation: with one, a client has a handshake done for the price of a few octets.
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS.encode())
    tls_sessions.set_groups(context, GROUPS)
    context.set_alpn_select_callback(_select_protocol)
    context.use_certificate(identity.chain[0])
    for certificate in identity.chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(identity.key)
    if clients is not None:
        _ask_for_certificate(context, clients)
    return context


def _select_protocol(_: SSL.Connection, offered: list[bytes]) -> bytes:
    """Choose ours; a client that offers others alone gets the alert `no_application_protocol` (RFC 7301 section 3.2).

    What is raised here makes pyOpenSSL have OpenSSL send that alert, and is then what the handshake fails with.
    """
    if PROTOCOL not in offered:
        raise SSL.Error([("SSL routines", "", "no application protocol")])
    return PROTOCOL


def _ask_for_certificate(context: SSL.Context, clients: Pem) -> None:
    """Let in who has a certificate from one of the authorities in `clients`, and is not in a revocation list there."""
    store = context.get_cert_store()
    assert store is not None
    for authority in clients.certificates:
        store.add_cert(crypto.X509.from_cryptography(authority))
        context.add_client_ca(authority)
    for revocation in clients.revocations:
        store.add_crl(revocation)
    if clients.revocations:
        store.set_flags(crypto.X509StoreFlags.CRL_CHECK)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.set_session_id(b"echod")  # OpenSSL wants one here, though no session is kept


def _choose_by_name(first: SSL.Context, by_name: dict[str, SSL.Context]) -> None:
    """Let connections that begin with `first` go on with the context for the name that the client says; an unknown one
    stays with it."""

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode(errors="replace").lower()
        # A wildcard is for one label (RFC 6125 section 6.4.3).
        context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)

    first.set_tlsext_servername_callback(choose)


def _reason(error: Exception) -> str:
    """Return OpenSSL's own words out of its lists."""
    first = error.args[0] if error.args else None
    return str(first[0][-1] if isinstance(first, list) and first else error)


@implementer(IStreamServerEndpoint)
class Endpoint:
    """TLS over the endpoint `below`."""

    def __init__(self, certificates: Certificates, below: IStreamServerEndpoint, clock: Any) -> None:
        """`clock` is the reactor."""
        self.certificates = certificates
        self._below = below
        self._clock = clock

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Listen."""
        return self._below.listen(TLSMemoryBIOFactory(self.certificates, False, protocolFactory, clock=self._clock))


def served(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> Iterator[tuple[str, Certificates]]:
    """Return the certificates of those endpoints that have some, each with the endpoint's text."""
    return ((text, endpoint.certificates) for text, endpoint in endpoints if isinstance(endpoint, Endpoint))


def ends(endpoints: Iterable[tuple[str, IStreamServerEndpoint]]) -> dict[tuple[str, ...], float]:
    """Return when the certificates end that clients are shown, in seconds since 1970, by the endpoint's text and their
    names.

    Of several for the same names it is the first to end.
    """
    found: dict[tuple[str, ...], float] = {}
    for text, certificates in served(endpoints):
        for identity in certificates.used:
            kind, end = (text, identity.called), identity.chain[0].not_valid_after_utc.timestamp()
            found[kind] = min(end, found.get(kind, end))
    return found


def parse(text: str) -> tuple[Certificates, str] | None:
    """Return the certificates of an `ssl:` or `tls:` endpoint and the `tcp:` one below it; None: it is of another kind.

    Raises `FileFault` for a file that can't be used, and another `ValueError` for what is wrong with the text.
    """
    kind, _, _ = text.partition(":")
    if kind not in ("ssl", "tls"):
        return None
    (_, *arguments), options = endpoints.endpoint_arguments(text)
    try:
        return _parse_ssl(*arguments, **options) if kind == "ssl" else _parse_tls(*arguments, **options)
    except TypeError as error:  # an argument that there is not, or one too many or too few
        raise ValueError(re.sub(r"^_parse_(\w+)\(\)", r"\1:", str(error))) from error


def _parse_ssl(
    port: str,
    privateKey: str = "server.pem",
    certKey: str | None = None,
    interface: str = "",
    backlog: str = "50",
    extraCertChain: str | None = None,
    clientCa: str | None = None,
) -> tuple[Certificates, str]:
    key = _path("ssl: privateKey", privateKey)
    certificate, chain = (
        _optional_path("ssl: certKey", certKey) or key,
        _optional_path("ssl: extraCertChain", extraCertChain),
    )
    authorities = _optional_path("ssl: clientCa", clientCa)
    return Certificates(lambda: read_pair(key, certificate, chain), authorities), _tcp(port, interface, backlog)


def _parse_tls(
    path: str, port: str = "443", backlog: str = "50", interface: str = "", clientCa: str | None = None
) -> tuple[Certificates, str]:
    folder, authorities = _path("tls: path", path), _optional_path("tls: clientCa", clientCa)
    return Certificates(lambda: read_folder(folder), authorities), _tcp(port, interface, backlog)


def _path(name: str, text: str) -> Path:
    if not text:
        # From a variable that isn't set. It would be the working directory, with every *.pem below it.
        raise ValueError(f"{name} is empty")
    return Path(text).absolute()  # twistd may change its directory before a reload


def _optional_path(name: str, text: str | None) -> Path | None:
    return None if text is None else _path(name, text)


def _tcp(port: str, interface: str, backlog: str) -> str:
    port, interface, backlog = map(quoteStringArgument, (port, interface, backlog))
    return f"tcp:{port}:interface={interface}:backlog={backlog}"

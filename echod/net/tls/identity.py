"""Identities: each private key with its certificate and the certificates of its issuers.

Knows how keys and certificates in files belong together, and which keys TLS can use. Must never know OpenSSL's contexts
or endpoint strings.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import PublicKeyAlgorithmOID

from echod.net.tls.pem import naming, read_certificates, read_pem

KEYS = (PublicKeyAlgorithmOID.RSAES_PKCS1_v1_5, PublicKeyAlgorithmOID.ED25519, PublicKeyAlgorithmOID.ED448)
"""The kinds of keys that TLS 1.3 has signatures for (RFC 8446 section 4.2.3), beside the elliptic curves below. OpenSSL
accepts other kinds, and then fails every handshake with them. One of these is RSA for PSS alone: cryptography reads
such a key as any RSA key, and then the key doesn't fit its certificate."""

CURVES = ("secp256r1", "secp384r1", "secp521r1")


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key, its certificate, and the certificates of the issuers."""

    path: Path
    """The file of the certificate."""
    key: Any
    chain: tuple[x509.Certificate, ...]
    """The certificate, followed by those of its issuers."""
    names: tuple[str, ...]
    """The host names of the certificate, as SNI has them."""

    def __str__(self) -> str:
        """Return the names, and when the certificate ends."""
        return f"{self.called} until {_minute(self.chain[0].not_valid_after_utc)}"

    @property
    def called(self) -> str:
        """The names, for a person to read."""
        return ", ".join(self.names) or "no name"

    @property
    def fault(self) -> str | None:
        """Why clients refuse the certificate now, in words that follow its name; None if they accept it."""
        now, certificate = datetime.now(UTC), self.chain[0]
        if now > certificate.not_valid_after_utc:
            return "has expired"
        if now < certificate.not_valid_before_utc:
            return f"is not valid before {_minute(certificate.not_valid_before_utc)}"
        return None


def _minute(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def read_pair(key_path: Path, certificate_path: Path, chain_path: Path | None) -> list[Identity]:
    """Read the files of an `ssl:` endpoint; raises `ValueError` or `OSError`."""
    keys = read_pem(key_path).keys
    if not keys:
        raise ValueError(f"{key_path}: there is no private key in it")
    chain = read_certificates(certificate_path).certificates
    if chain_path is not None:
        chain += read_certificates(chain_path).certificates
    with naming(key_path):
        public = _public(keys[0])
    with naming(certificate_path):
        if public != _public(chain[0]):
            raise ValueError(f"its certificate is not for the key in {key_path}")
        return [_identify(certificate_path, keys[0], chain)]


def read_folder(folder: Path) -> list[Identity]:
    """Read every `*.pem` in and below `folder`; raises `ValueError` or `OSError`.

    It does not matter which file holds what. Each key goes with every certificate for it, the newest first, and each
    certificate goes with its issuers.
    """
    files = {path: read_pem(path) for path in _find(folder)}
    by_key: dict[bytes, list[x509.Certificate]] = defaultdict(list)
    issuers: dict[x509.Name, list[x509.Certificate]] = defaultdict(list)
    places: dict[x509.Certificate, Path] = {}
    for path, certificate in ((path, certificate) for path, file in files.items() for certificate in file.certificates):
        if certificate not in places:
            places[certificate] = path
            with naming(path):
                by_key[_public(certificate)].append(certificate)
                if certificate.subject != certificate.issuer:
                    issuers[certificate.subject].append(certificate)
    identities = []
    seen: set[bytes] = set()
    for path, key in ((path, key) for path, file in files.items() for key in file.keys):
        with naming(path):
            public = _public(key)
        if public not in by_key:
            # The certificate may be about to come. Without the key, its name would have no certificate.
            raise ValueError(f"{path}: there is no certificate for its key")
        if public not in seen:
            for own in sorted(by_key[public], key=rank, reverse=True):
                with naming(places[own]):
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
        raise ValueError("its key is not RSA (other than PSS only), ECDSA with P-256, P-384 or P-521, Ed25519 or Ed448")
    try:
        names = chain[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Identity(path, key, chain, ())
    return Identity(path, key, chain, tuple(name.lower() for name in names.get_values_for_type(x509.DNSName)))


def rank(certificate: x509.Certificate) -> tuple[bool, datetime]:
    """Return the sort key by which the better of two certificates is greater: valid by now, then newer."""
    begin = certificate.not_valid_before_utc
    return begin <= datetime.now(UTC), begin


def _chain(
    certificate: x509.Certificate, issuers: Mapping[x509.Name, Sequence[x509.Certificate]]
) -> tuple[x509.Certificate, ...]:
    """Return `certificate` and its issuers, without the authority's own certificate: a client that trusts it has it."""
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

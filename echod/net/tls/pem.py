"""PEM files: the certificates, keys and revocation lists in one file, and what is wrong with it.

Knows PEM and cryptography's parsers. Must never know which key belongs to which certificate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key

_UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for the content of a file; it raises some of these only when a part is asked for. TypeError
means a key behind a passphrase."""

_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


class FileFault(ValueError):
    """A file that an endpoint names can't be used; the message begins with the path of the file."""


@dataclass(frozen=True, slots=True)
class Pem:
    """The content of a PEM file. Blocks of other kinds, such as parameters, are left out."""

    certificates: tuple[x509.Certificate, ...]
    keys: tuple[Any, ...]
    revocations: tuple[x509.CertificateRevocationList, ...]


def read_pem(path: Path) -> Pem:
    """Read a PEM file.

    Raises `ValueError` or `OSError`, both with the path. A block that is cut short is an error, too: another program is
    still writing the file.
    """
    octets = path.read_bytes()
    blocks = [(match[1], match[0]) for match in _BLOCK.finditer(octets)]
    with naming(path):
        if not blocks:
            raise ValueError("there is nothing in PEM format in it")
        if octets.count(b"-----BEGIN ") != len(blocks) or octets.count(b"-----END ") != len(blocks):
            raise ValueError("a part of it is missing")
        return Pem(
            tuple(x509.load_pem_x509_certificate(text) for kind, text in blocks if kind == b"CERTIFICATE"),
            tuple(load_pem_private_key(text, None) for kind, text in blocks if kind.endswith(b"PRIVATE KEY")),
            tuple(x509.load_pem_x509_crl(text) for kind, text in blocks if kind == b"X509 CRL"),
        )


def read_certificates(path: Path) -> Pem:
    """Read a PEM file that must hold a certificate; raises `ValueError` or `OSError`."""
    pem = read_pem(path)
    if not pem.certificates:
        raise ValueError(f"{path}: there is no certificate in it")
    return pem


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn every error about the content of a file into a `ValueError` that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        raise ValueError(f"{path}: {error}") from error

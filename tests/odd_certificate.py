"""Certificates that a client may have to reject: for arbitrary names and periods of validity.

The certificates of the daemons under test are in tests/tls.py.
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class OddCertificate:
    """A self-signed certificate, with its key in the same PEM file `path`.

    `hosts` are names and addresses. Without any there is no subjectAltName. The certificate is valid between the two
    `days`, counted from now.
    """

    def __init__(self, path: Path, *hosts: str, days: tuple[float, float] = (-1, 1)) -> None:
        self.path = path
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone")])
        start, end = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=day) for day in days)
        builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), start, end)
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False
            )
        self.certificate = builder.sign(key, hashes.SHA256())
        encoding, no_encryption = serialization.Encoding.PEM, serialization.NoEncryption()
        path.write_bytes(
            key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no_encryption)
            + self.certificate.public_bytes(encoding)
        )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)

"""OpenSSL contexts: what a connection negotiates, which certificate it shows, and what it asks of a client.

Knows OpenSSL's settings. Must never know where a certificate came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IProtocolNegotiationFactory

from echod.net.tls.pem import Pem
from echod.upstream import tls_sessions

CIPHERS = ":".join(
    f"ECDHE-{signature}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for signature in ("ECDSA", "RSA")
)
"""The ciphers of TLS 1.2 that have forward secrecy and authenticated encryption: Mozilla's "intermediate" list without
finite fields. All ciphers of TLS 1.3 have both."""

GROUPS = ("X25519MLKEM768:X25519:P-256:P-384", "X25519:P-256:P-384")
"""The groups for the key exchange: Mozilla's, preceded by one that a quantum computer won't break where OpenSSL has it
(3.5)."""

PROTOCOL = b"http/1.1"
"""The protocol for ALPN (RFC 7301), which browsers offer for `wss://`. Twisted itself answers any offer with the alert
"internal error"."""

HTTP2 = b"h2"
"""HTTP/2's name there (RFC 9113 section 3.2)."""


def make_context(
    key: Any, chain: Sequence[x509.Certificate], clients: Pem | None, ciphers: str = CIPHERS
) -> SSL.Context:
    """Return a context that shows the first certificate of `chain`, which is for `key`, followed by those of its
    issuers, and that asks for a certificate from one of the authorities in `clients`.

    Raises what OpenSSL has against a certificate or its key: `SSL.Error`, `crypto.Error` or `TypeError`.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    # No tickets and no session cache: so there is no key to rotate, and each connection has the client's certificate
    # checked. No renegotiation: a client could have a handshake computed for the price of a few bytes.
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(ciphers.encode())
    tls_sessions.set_groups(context, GROUPS)
    context.set_alpn_select_callback(_select_protocol)
    context.use_certificate(chain[0])
    for certificate in chain[1:]:
        context.add_extra_chain_cert(certificate)
    context.use_privatekey(key)
    if clients is not None:
        _ask_for_certificate(context, clients)
    return context


def choose_by_name(first: SSL.Context, by_name: Mapping[str, SSL.Context]) -> None:
    """Let a connection that begins with `first` continue with the context for the name that the client sends (SNI).

    For an unknown name, or none, `first` remains.
    """

    def choose(connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode(errors="replace").lower()
        # A wildcard stands for one label (RFC 6125 section 6.4.3).
        context = by_name.get(name) or by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)

    first.set_tlsext_servername_callback(choose)


def describe_error(error: Exception) -> str:
    """Return OpenSSL's own words, which pyOpenSSL wraps in lists."""
    first = error.args[0] if error.args else None
    return str(first[0][-1] if isinstance(first, list) and first else error)


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> bytes:
    """Choose the first of our protocols that the client offers. A client that offers none of them gets the alert
    `no_application_protocol` (RFC 7301 section 3.2).

    The factory of the protocol above TLS says which are ours. Twisted leaves its TLS protocol, which leads there, with
    the connection.

    pyOpenSSL lets OpenSSL send that alert if this function raises; the handshake then fails with what was raised.
    """
    factory = getattr(getattr(connection.get_app_data(), "factory", None), "wrappedFactory", None)
    above = IProtocolNegotiationFactory(factory, None)
    for protocol in (PROTOCOL,) if above is None else above.acceptableProtocols():
        if protocol in offered:
            return bytes(protocol)
    raise SSL.Error([("SSL routines", "", "no application protocol")])


def _ask_for_certificate(context: SSL.Context, clients: Pem) -> None:
    """Require a client certificate from one of the authorities in `clients` that no revocation list there names."""
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
    context.set_session_id(b"echod")  # OpenSSL requires one here, although no session is kept

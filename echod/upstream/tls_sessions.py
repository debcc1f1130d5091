"""TLS sessions: which groups they may agree on, what ended one, and its parts for as long as it is in other hands.

Knows pyOpenSSL, the binding under it, and how Twisted drives both. Must never know certificates, nor what is done with
the parts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, cast

from OpenSSL import SSL

from echod.upstream import names
from echod.upstream.transports import RECORD_SIZE, is_tls, send_now, tls_of


def set_groups(context: SSL.Context, choices: Sequence[str]) -> None:
    """Allow these groups alone for the key exchange: the first of `choices` that the OpenSSL in use knows every one of.

    pyOpenSSL has a way to set a single elliptic curve; OpenSSL's own default has others that are slower and hardly
    looked at (X448).
    """
    library = cast(Any, SSL)._lib
    for groups in choices:
        if library.SSL_CTX_set1_curves_list(context._context, groups.encode()):
            return
        library.ERR_clear_error()  # else the next call that looks there finds it
    raise ValueError("OpenSSL knows none of the groups for the key exchange")


def tls_fault(error: BaseException | None) -> str | None:
    """Return what OpenSSL has against what the peer did, as pyOpenSSL tells it; None if that is not what ended a
    connection."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return ", ".join(str(entry[-1]) for entry in error.args[0]) or None
    return None


class Session(NamedTuple):
    """An open TLS session by the addresses of its parts, which live as long as the connection."""

    ssl: int
    incoming: int
    outgoing: int


_OPENSSL_FUNCTIONS = {
    "SSL_read": "int(*)(SSL *, void *, int)",
    "SSL_peek": "int(*)(SSL *, void *, int)",
    "SSL_write": "int(*)(SSL *, void *, int)",
    "SSL_get_error": "int(*)(SSL *, int)",
    "BIO_read": "int(*)(BIO *, void *, int)",
    "BIO_write": "int(*)(BIO *, void *, int)",
    "BIO_get_mem_data": "long(*)(BIO *, char * *)",
    "ERR_clear_error": "void(*)()",
    "BIO_new": "BIO *(*)(BIO_METHOD *)",
    "BIO_s_mem": "BIO_METHOD *(*)()",
    "BIO_free": "int(*)(BIO *)",
    "SSL_set_bio": "void(*)(SSL *, BIO *, BIO *)",
}


@cache
def openssl() -> dict[str, int] | None:
    """Return, of the OpenSSL that makes Twisted's TLS sessions, the functions (their addresses) and constants that
    serve one.

    They are in cryptography's binding, which promises neither them nor their types to anybody but pyOpenSSL: None, if
    they are not what they were, or if a name by which a session is taken apart is gone (`names.TLS_LANE`).
    """
    if names.missing(names.TLS_LANE):
        return None
    try:
        binding = importlib.import_module("cryptography.hazmat.bindings._rust")._openssl
        ffi, lib = binding.ffi, binding.lib
        functions = {name: ffi.addressof(lib, name) for name in _OPENSSL_FUNCTIONS}
        is_known = {name: ffi.typeof(function).cname for name, function in functions.items()} == _OPENSSL_FUNCTIONS
        if not is_known or cast(Any, SSL)._lib.SSL_read is not lib.SSL_read:
            return None
        addresses = {name: int(ffi.cast("uintptr_t", function)) for name, function in functions.items()}
        return addresses | {"SSL_ERROR_WANT_READ": lib.SSL_ERROR_WANT_READ}
    except (ImportError, AttributeError):
        return None


def session(layers: Sequence[Any]) -> Session | None:
    """Return the TLS session between two reads, if that is all there is on the socket, with nothing under way but
    octets."""
    if not is_tls(layers) or openssl() is None:
        return None
    tls = layers[0]
    if not tls._handshakeDone or tls._lostTLSConnection or tls._aborted or tls.disconnecting or tls._appSendBuffer:
        return None
    connection = tls.getHandle()
    try:
        return Session(
            *(
                int(cast(Any, SSL)._ffi.cast("uintptr_t", part))
                for part in (connection._ssl, connection._into_ssl, connection._from_ssl)
            )
        )
    except (AttributeError, TypeError):
        return None


def renew_buffers(layers: Sequence[Any]) -> bool:
    """Give back the memory that the buffers of a TLS session have grown to; tell whether they are as small as they can
    be now.

    The memory BIOs of OpenSSL never shrink, so new ones take their place. This is only possible while both are empty:
    part of a record that was received is in the session itself, which keeps it. A session in other hands is not to be
    touched.
    """
    tls = tls_of(layers)
    if tls is None or openssl() is None:
        return True  # there is nothing that could be done later
    if not tls._handshakeDone or tls._lostTLSConnection or tls._aborted:
        return False
    connection, library, ffi = tls.getHandle(), cast(Any, SSL)._lib, cast(Any, SSL)._ffi
    octets = ffi.new("char **")
    if any(library.BIO_get_mem_data(bio, octets) for bio in (connection._into_ssl, connection._from_ssl)):
        return False
    incoming, outgoing = library.BIO_new(library.BIO_s_mem()), library.BIO_new(library.BIO_s_mem())
    if ffi.NULL in (incoming, outgoing):  # there is no memory
        library.BIO_free(incoming)
        library.BIO_free(outgoing)
        library.ERR_clear_error()
        return False
    library.SSL_set_bio(connection._ssl, incoming, outgoing)  # frees the old ones
    connection._into_ssl, connection._from_ssl = incoming, outgoing
    return True


def flush_session(layers: Sequence[Any]) -> None:
    """Write what a TLS session that was in other hands has left to be sent."""
    with suppress(SSL.Error):  # there is no more
        while True:
            send_now(layers[-1], layers[0].getHandle().bio_read(2 * RECORD_SIZE))


def read_session(layers: Sequence[Any]) -> None:
    """Take what a TLS session that was in other hands has left to be received, and whatever else is to be met there."""
    layers[0]._flushReceiveBIO()

"""TLS sessions: the groups that a session may agree on, what ended a session, and its parts while the pump uses it.

Knows pyOpenSSL, the binding below it, and how Twisted drives both. Must never know certificates, or what is done with
the parts.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple, cast

from OpenSSL import SSL
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure

from echod.upstream import names
from echod.upstream.transports import RECORD_SIZE, is_tls, send_now, tls_of


def set_groups(context: SSL.Context, choices: Sequence[str]) -> None:
    """Allow only certain groups for the key exchange: the first list in `choices` of which OpenSSL knows every group.

    Raises `ValueError` if there is none. pyOpenSSL can only set a single elliptic curve. OpenSSL's own default has
    further groups that are slower and less well studied (X448).
    """
    library = cast(Any, SSL)._lib
    for groups in choices:
        if library.SSL_CTX_set1_curves_list(context._context, groups.encode()):
            return
        library.ERR_clear_error()  # otherwise the next call that looks for errors would find this one
    raise ValueError("OpenSSL knows none of the groups for the key exchange")


def tls_fault(error: BaseException | None) -> str | None:
    """Return OpenSSL's complaint about the peer, as pyOpenSSL reports it; None if no such complaint ended the
    connection."""
    if isinstance(error, SSL.Error) and error.args and isinstance(error.args[0], list):
        return ", ".join(str(entry[-1]) for entry in error.args[0]) or None
    return None


class _Layer(BufferingTLSTransport):
    """Twisted's TLS layer, freed as soon as its connection is lost.

    Most ends of a TLS connection are an exception of OpenSSL's: clients close without a close_notify. Twisted catches
    the exception in a `Failure`, whose traceback refers to the frame that holds the `Failure`, and also to the TLS
    layer and its session. So all of them, with all that the socket's transport has not sent, would be left to the
    garbage collector, which may not look at them for hours.
    """

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if reason is not None:
            # Not `cleanFailure`: pytest-twisted has that do nothing.
            error: Any = reason.value
            reason.tb = error.__traceback__ = None
        cast(Any, super())._tlsShutdownFinished(reason)


class TLSFactory(TLSMemoryBIOFactory):
    """Puts TLS between a socket's transport and each protocol of another factory."""

    protocol = _Layer


class Session(NamedTuple):
    """An open TLS session as the addresses of its parts, which live as long as the connection."""

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
    """Return the functions (by address) and constants that serve a session of the OpenSSL that Twisted uses.

    They come from cryptography's binding, which promises neither functions nor types to anybody but pyOpenSSL. Returns
    None if a function or its type has changed, or if a private name that gives a session's parts is gone
    (`names.TLS_LANE`).
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
    """Return the TLS session. Call this between two reads.

    Returns None if anything but TLS is on the socket, or if a handshake, an end or unsent bytes are pending in Twisted.
    """
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
    """Free the memory that a TLS session's buffers have grown to, and tell whether they are now as small as possible.

    OpenSSL's memory BIOs never shrink, so new ones take their place. That is possible only while both are empty. An
    incomplete record that was received is no obstacle: it is in the session itself, which keeps it. Do not call this
    while the session is leased.
    """
    tls = tls_of(layers)
    if tls is None or openssl() is None:
        return True  # a later call could not do more
    if not tls._handshakeDone or tls._lostTLSConnection or tls._aborted:
        return False
    connection, library, ffi = tls.getHandle(), cast(Any, SSL)._lib, cast(Any, SSL)._ffi
    content = ffi.new("char **")
    if any(library.BIO_get_mem_data(bio, content) for bio in (connection._into_ssl, connection._from_ssl)):
        return False
    incoming, outgoing = library.BIO_new(library.BIO_s_mem()), library.BIO_new(library.BIO_s_mem())
    if ffi.NULL in (incoming, outgoing):  # out of memory
        library.BIO_free(incoming)
        library.BIO_free(outgoing)
        library.ERR_clear_error()
        return False
    library.SSL_set_bio(connection._ssl, incoming, outgoing)  # frees the old ones
    connection._into_ssl, connection._from_ssl = incoming, outgoing
    return True


def flush_session(layers: Sequence[Any]) -> None:
    """Write what a TLS session still has to send after its lease."""
    with suppress(SSL.Error):  # raised when there is no more
        while True:
            send_now(layers[-1], layers[0].getHandle().bio_read(2 * RECORD_SIZE))


def read_session(layers: Sequence[Any]) -> None:
    """Let Twisted read what a TLS session still has to deliver after its lease: received bytes, an end, or an error."""
    layers[0]._flushReceiveBIO()

"""The parts of a TLS session, and the settings that OpenSSL gets."""

from __future__ import annotations

import inspect
import sys
from typing import Any, cast

import pytest
from OpenSSL import SSL
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol

from echod.upstream import tls_sessions
from tests.tls import Certificate


def test_groups_that_openssl_does_not_know_are_passed_over() -> None:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    tls_sessions.set_groups(context, ["no-such-group", "P-384"])
    # The first choice leaves no error in OpenSSL's queue, where the next call would find it.
    with pytest.raises(SSL.Error, match="no start line"):
        context.use_certificate_chain_file("/dev/null")
    with pytest.raises(ValueError, match="none of the groups"):
        tls_sessions.set_groups(context, ["no-such-group"])


def test_the_parts_of_a_tls_session_are_where_they_were(certificate: Certificate) -> None:
    """`session` reads the parts, and the pump gets them. After a lease Twisted goes on with `_flushReceiveBIO`."""
    connection: Any = SSL.Connection(certificate.server_options().getContext(), None)
    ffi = cast(Any, SSL)._ffi
    parts = {name: ffi.typeof(getattr(connection, name)).cname for name in ("_ssl", "_into_ssl", "_from_ssl")}
    assert parts == {"_ssl": "SSL *", "_into_ssl": "BIO *", "_from_ssl": "BIO *"}
    source = inspect.getsource(SSL.Connection)
    assert "self._ssl = _ffi.gc(ssl, _lib.SSL_free)" in source, "it lives as long as the connection"
    assert "self._into_ssl = _lib.BIO_new(_lib.BIO_s_mem())" in source, "memory, not a socket"
    attributes = ("_handshakeDone", "_lostTLSConnection", "_aborted", "_appSendBuffer", "disconnecting")
    twisted = inspect.getsource(TLSMemoryBIOProtocol) + inspect.getsource(ProtocolWrapper)
    assert all(f"{name} = " in twisted for name in attributes)
    # Twisted reads everything before a read is over. So only parts of a record can be there when a lease begins.
    assert "while not self._lostTLSConnection:" in inspect.getsource(TLSMemoryBIOProtocol._flushReceiveBIO)


def test_twisted_still_keeps_a_failure_in_the_frame_that_its_traceback_refers_to() -> None:
    """`TLSFactory` breaks this cycle. tests/reliability/test_garbage.py shows that nothing is left of a connection."""
    source = inspect.getsource(TLSMemoryBIOProtocol._flushReceiveBIO)
    assert "failure = Failure()\n                self._tlsShutdownFinished(failure)" in source
    assert issubclass(tls_sessions.TLSFactory.protocol, TLSMemoryBIOFactory.protocol)


def test_openssl_is_there_and_is_the_one_that_makes_the_sessions() -> None:
    functions = tls_sessions.openssl()
    assert functions is not None
    assert functions["SSL_ERROR_WANT_READ"] == cast(Any, SSL)._lib.SSL_ERROR_WANT_READ
    assert all(functions.values())


@pytest.mark.parametrize("change", ["gone", "other types", "another library"])
def test_openssl_is_not_used_when_it_is_not_what_it_was(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if change == "gone":
        monkeypatch.setitem(sys.modules, "cryptography.hazmat.bindings._rust", None)
    elif change == "other types":
        monkeypatch.setitem(tls_sessions._OPENSSL_FUNCTIONS, "SSL_read", "int(*)(SSL *, void *, size_t)")
    else:
        monkeypatch.setattr(cast(Any, SSL)._lib, "SSL_read", print)
    assert tls_sessions.openssl.__wrapped__() is None


def test_a_session_without_its_parts_is_not_lent() -> None:
    class Handle:
        _ssl = None

    class TLS(TLSMemoryBIOProtocol):
        _handshakeDone = True
        _appSendBuffer: Any = []  # noqa: RUF012  # Twisted's attribute, which nobody changes here

        def __init__(self) -> None:
            """Have no factory."""

        def getHandle(self) -> Any:
            return Handle()

    class Socket(Connection):
        def __init__(self) -> None:
            """Have no socket."""

    assert tls_sessions.session([TLS(), Socket()]) is None
    assert tls_sessions.session([Socket()]) is None

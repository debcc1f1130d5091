"""Endpoint strings, passed and adopted sockets, and why echod has its own endpoints for TLS and the PROXY protocol."""

from __future__ import annotations

import gc
import os
import select
import socket
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import pytest_twisted
from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, _SystemdParser, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import PrivateCertificate
from twisted.protocols._sni import autoReloadingDirectoryOfPEMs
from twisted.protocols.haproxy._wrapper import HAProxyWrappingFactory
from twisted.python.filepath import FilePath
from twisted.python.systemd import ListenFDs

from echod.http.client_address import plain_address
from echod.upstream import endpoints
from tests.fakes import Transport
from tests.reactor import Kept
from tests.tls import Certificate, Client


def test_an_endpoint_string_is_taken_apart_and_unquoted() -> None:
    assert endpoints.endpoint_arguments(r"ssl:44\:3:a=b\=c:interface=\:\:1") == (
        ["ssl", "44:3"],
        {"a": "b=c", "interface": "::1"},
    )


def test_what_systemd_passed_is_kept_on_the_class() -> None:
    assert isinstance(_SystemdParser._sddaemon, ListenFDs)
    assert endpoints.passed_descriptors() == _SystemdParser._sddaemon.inheritedDescriptors()


@pytest.mark.parametrize("names", [{}, {"LISTEN_FDNAMES": ""}, {"LISTEN_FDNAMES": "only-one"}], ids=str)
def test_sockets_without_names_are_forgotten(
    names: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Twisted forgets them and removes its variables. The environment that the process began with still has these."""
    variables = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", **names}
    first = tmp_path / "environ"
    first.write_bytes(
        b"".join(f"{name}={value}\0".encode() for name, value in variables.items()) + b"\xff=\xff\0nonsense\0"
    )
    monkeypatch.setattr(endpoints, "FIRST_ENVIRONMENT", first)
    monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs.fromEnvironment(variables))
    assert "LISTEN_FDS" not in variables
    assert _SystemdParser._sddaemon.inheritedDescriptors() == []
    assert endpoints.passed_descriptors() == endpoints.passed_descriptors() == [3, 4]
    assert _SystemdParser._sddaemon.inheritedNamedDescriptors() == {"unknown": 4}, (
        "the last one with that name, as if from one unit"
    )
    passed = [
        serverFromString(reactor, f"systemd:domain=INET:{which}") for which in ("index=0", "index=1", "name=unknown")
    ]
    assert [endpoints.adopted_descriptor(endpoint) for endpoint in passed] == [3, 4, 4]


@pytest.mark.parametrize(
    "environment",
    [
        "",
        "LISTEN_PID={pid}",
        "LISTEN_PID={pid}\0LISTEN_FDS=two",
        "LISTEN_PID={pid}\0LISTEN_FDS=0",
        "LISTEN_PID={pid}\0LISTEN_FDS=-1",
        "LISTEN_PID={another}\0LISTEN_FDS=2",
        "LISTEN_FDS=2",
        None,
    ],
)
def test_sockets_of_nobody_and_of_others(
    environment: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = tmp_path / "environ"
    if environment is not None:
        first.write_text(environment.format(pid=os.getpid(), another=os.getppid()))
    monkeypatch.setattr(endpoints, "FIRST_ENVIRONMENT", first)
    monkeypatch.setattr(_SystemdParser, "_sddaemon", ListenFDs([], ()))
    assert endpoints.passed_descriptors() == []


def test_sockets_with_names_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    named = ListenFDs([5], ["a"])
    monkeypatch.setattr(_SystemdParser, "_sddaemon", named)
    assert endpoints.passed_descriptors() == [5]
    assert _SystemdParser._sddaemon is named


def test_the_descriptor_of_an_adopted_socket() -> None:
    assert endpoints.adopted_descriptor(AdoptedStreamServerEndpoint(reactor, 17, socket.AF_INET)) == 17
    assert endpoints.adopted_descriptor(serverFromString(reactor, "tcp:0")) is None


@pytest.mark.parametrize("is_left", [False, True])
@pytest_twisted.inlineCallbacks
def test_an_adopted_unix_socket_is_taken_away_from_who_made_it(
    is_left: bool, tmp_path: Path
) -> Generator[Any, Any, None]:
    """Twisted alone does that. With `leave_path` the socket stays."""
    Kept.made = Deferred()
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as owner:
        owner.bind(str(path))
        owner.listen()
        path.chmod(0o600)
        endpoint = AdoptedStreamServerEndpoint(reactor, os.dup(owner.fileno()), socket.AF_UNIX)
        if is_left:
            endpoints.leave_path(endpoint)
        port = yield endpoint.listen(Factory.forProtocol(Kept))
        assert port.getHost() == UNIXAddress(os.fsencode(path))
        assert (path.stat().st_mode & 0o777) == (0o600 if is_left else 0o666)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            protocol = yield Kept.made
            lost: Deferred[None] = Deferred()
            protocol.connectionLost = lambda _=None: lost.callback(None)
        yield lost
        yield port.stopListening()
        assert path.exists() is is_left
        look = select.poll()
        look.register(owner, 0)
        assert look.poll(0) == ([] if is_left else [(owner.fileno(), select.POLLHUP)]), "whether it is shut down"


@pytest_twisted.inlineCallbacks
def test_a_held_port_accepts_nothing_and_is_only_closed() -> Generator[Any, Any, None]:
    """Twisted would shut its socket down, which ends it for every process that has it."""
    port = yield serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Kept))
    assert port._shouldShutdown
    held = endpoints.hold(port)
    assert port not in reactor.getReaders()
    with held.dup() as other, socket.create_connection(held.getsockname(), 5):
        yield port.stopListening()
        accepted, _ = other.accept()
        accepted.close()
    with pytest.raises(ValueError, match="is not a socket"):
        endpoints.hold(cast(Any, object()))


@pytest_twisted.inlineCallbacks
def test_a_socket_of_another_process_is_adopted() -> Generator[Any, Any, None]:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = yield endpoints.adopt(reactor, os.dup(owner.fileno())).listen(Factory.forProtocol(Kept))
        assert port.getHost().port == owner.getsockname()[1]
        yield port.stopListening()


def families(text: str) -> Any:
    endpoint = serverFromString(reactor, text)
    endpoints.serve_both_families(endpoint)
    return endpoint.listen(Factory.forProtocol(Kept))


@pytest_twisted.inlineCallbacks
def test_a_port_without_an_interface_serves_both_families() -> Generator[Any, Any, None]:
    port = yield families("tcp:0")
    number = port.getHost().port
    assert endpoints.serves_both_families(port)
    for host in ("127.0.0.1", "::1"):
        Kept.made = Deferred()
        with socket.create_connection((host, number), 5):
            protocol = yield Kept.made
            assert plain_address(protocol.transport.getPeer().host) == host
            lost: Deferred[None] = Deferred()
            protocol.connectionLost = lambda _=None, lost=lost: lost.callback(None)
        yield lost
    for text in (f"tcp:{number}", f"tcp6:{number}", f"tcp:{number}:interface=127.0.0.1"):
        with pytest.raises((OSError, CannotListenError), match="Address already in use"):
            yield families(text)
    yield port.stopListening()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, ""), (socket.AF_INET6, "::1")]
)
@pytest_twisted.inlineCallbacks
def test_a_port_that_is_in_use_over_one_family_is_in_use(family: int, host: str) -> Generator[Any, Any, None]:
    with (
        socket.create_server((host, 0), family=family) as other,
        pytest.raises(OSError, match="Address already in use"),
    ):
        yield families(f"tcp:{other.getsockname()[1]}")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("tcp:0:interface=127.0.0.1", "127.0.0.1"),
        (r"tcp:0:interface=\:\:1", "::1"),
        ("tcp:0:interface=0.0.0.0", "0.0.0.0"),
    ],
)
@pytest_twisted.inlineCallbacks
def test_a_port_with_an_interface_serves_that_alone(text: str, host: str) -> Generator[Any, Any, None]:
    port = yield families(text)
    assert port.getHost().host == host
    assert not endpoints.serves_both_families(port)
    yield port.stopListening()


@pytest_twisted.inlineCallbacks
def test_where_the_kernel_has_no_ipv6_a_port_serves_ipv4(monkeypatch: pytest.MonkeyPatch) -> Generator[Any, Any, None]:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    port = yield families("tcp:0")
    assert port.getHost().host == "0.0.0.0"
    assert not endpoints.serves_both_families(port)
    yield port.stopListening()


def test_a_socket_for_ipv6_alone_does_not_serve_both() -> None:
    for is_dual in (False, True):
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=is_dual) as made:
            assert endpoints.serves_both_families(cast(Any, SimpleNamespace(socket=made))) is is_dual
    assert not endpoints.serves_both_families(cast(Any, SimpleNamespace()))


def test_other_endpoints_are_left_as_they_are() -> None:
    endpoint = AdoptedStreamServerEndpoint(reactor, 17, socket.AF_INET)
    endpoints.serve_both_families(endpoint)
    for left in (endpoint, serverFromString(reactor, "tcp:0")):
        endpoints.leave_path(left)
    assert endpoint.reactor is reactor


@pytest.fixture
def leaves_sockets() -> Iterator[None]:
    """Collect garbage now and not in a later test, because Twisted leaves a socket that could not be bound."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def take(text: str) -> Any:
    endpoint: Any = serverFromString(reactor, text)
    endpoints.take_path(endpoint)
    return endpoint


def leave_dead_socket(path: Path) -> None:
    """Leave a socket behind, as a daemon does that was killed."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()


@pytest.mark.usefixtures("leaves_sockets")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest_twisted.inlineCallbacks
def test_a_path_where_nobody_accepts_is_taken_over(tmp_path: Path) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    leave_dead_socket(path)
    # Twisted's lock. In a container the next process has the same process id.
    (tmp_path / "socket.lock").symlink_to(str(os.getpid()))
    with pytest.raises(CannotListenError):
        yield serverFromString(reactor, f"unix:{path}").listen(Factory.forProtocol(Kept))
    port = yield take(f"unix:{path}:mode=600").listen(Factory.forProtocol(Kept))
    assert (path.stat().st_mode & 0o777) == 0o600
    assert port.getHost() == UNIXAddress(os.fsencode(path))
    (tmp_path / "socket.lock").unlink()
    # The path is in use, even if the process that has it is busy.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        with pytest.raises(CannotListenError, match="in use"):
            yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    yield port.stopListening()
    assert list(tmp_path.iterdir()) == [], "no lock is made, nor left"


@pytest.mark.usefixtures("leaves_sockets")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest_twisted.inlineCallbacks
def test_a_path_of_something_else_is_not_taken_over(tmp_path: Path) -> Generator[Any, Any, None]:
    path, dead, full = (tmp_path / name for name in ("file", "dead", "full"))
    path.write_text("kept")
    with pytest.raises(FileExistsError, match="is not a socket"):
        yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    assert path.read_text() == "kept"
    leave_dead_socket(dead)
    (tmp_path / "link").symlink_to(dead)
    with pytest.raises(FileExistsError, match="is not a socket"):
        yield take(f"unix:{tmp_path / 'link'}").listen(Factory.forProtocol(Kept))
    # A server that accepts so late that the kernel's queue is full.
    with socket.socket(socket.AF_UNIX) as slow, socket.socket(socket.AF_UNIX) as waiting:
        slow.bind(str(full))
        slow.listen(0)
        waiting.connect(str(full))
        with pytest.raises(CannotListenError, match="in use"):
            yield take(f"unix:{full}").listen(Factory.forProtocol(Kept))
        assert full.exists()


@pytest_twisted.inlineCallbacks
def test_a_path_that_leads_elsewhere_by_now_is_left(tmp_path: Path) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    first = yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    path.unlink()
    second = yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    yield first.stopListening()
    assert path.exists()
    yield second.stopListening()
    assert not path.exists()
    third = yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    path.unlink()
    yield third.stopListening()


@pytest_twisted.inlineCallbacks
def test_a_start_that_fails_removes_the_path_at_once(tmp_path: Path) -> Generator[Any, Any, None]:
    path = tmp_path / "socket"
    port = yield take(f"unix:{path}").listen(Factory.forProtocol(Kept))
    other = yield take("tcp:0:interface=127.0.0.1").listen(Factory.forProtocol(Kept))
    for listening in (port, other):
        endpoints.abandon(listening)
    assert not path.exists()
    yield port.stopListening()
    yield other.stopListening()


class TestFaults:
    """Faults of Twisted's own `haproxy:`, `ssl:` and `tls:`, which `net.proxy_header` and `net.tls` replace."""

    def test_a_proxy_header_in_pieces_is_dropped(self) -> None:
        protocol = HAProxyWrappingFactory(Factory.forProtocol(Protocol)).buildProtocol(UNIXAddress(None))
        transport = Transport()
        assert protocol is not None
        protocol.makeConnection(transport)
        protocol.dataReceived(b"PRO")
        assert transport.disconnecting

    def test_an_offer_of_alpn_is_answered_with_an_alert(self, certificate: Certificate) -> None:
        """Every browser makes such an offer."""
        options = PrivateCertificate.loadPEM(certificate.path.read_bytes()).options()
        protocol = SimpleNamespace(factory=SimpleNamespace(wrappedFactory=Factory()))
        Client(options, protocol=protocol).shake_hands()
        with pytest.raises(SSL.Error, match="internal error"):
            Client(options, protocol=protocol, protocols=[b"http/1.1"]).shake_hands()

    def test_key_exchanges_without_forward_secrecy_are_taken(self, certificate: Certificate) -> None:
        ciphers = SSL.Connection(
            PrivateCertificate.loadPEM(certificate.path.read_bytes()).options().getContext()
        ).get_cipher_list()
        assert "AES128-SHA" in ciphers

    @pytest.mark.filterwarnings("ignore:X509.get_(issuer|subject) is deprecated")
    def test_a_renewed_file_is_not_read_again(self, tmp_path: Path) -> None:
        old = Certificate(tmp_path / "a.pem")
        lookup = autoReloadingDirectoryOfPEMs(FilePath(str(tmp_path)))
        before = lookup(b"localhost")
        Certificate(tmp_path / "a.pem", key=old.key)
        assert lookup(b"localhost") is before

    def test_what_follows_the_first_certificate_is_left_out(self, tmp_path: Path) -> None:
        root = Certificate(tmp_path / "root", ["Root"])
        leaf = Certificate(tmp_path / "leaf", issuer=root)
        leaf.path.write_bytes(leaf.path.read_bytes() + root.pem)
        endpoint: Any = serverFromString(reactor, f"ssl:0:privateKey={leaf.path}")
        assert endpoint._sslContextFactory.extraCertChain == []

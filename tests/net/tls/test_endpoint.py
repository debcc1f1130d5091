"""`ssl:` and `tls:` endpoints: their strings, and TLS on real sockets, also behind a PROXY header."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread

from echod.net.endpoints import parse_endpoint
from echod.net.tls import endpoint
from echod.net.tls.throwaway import Fault, Throwaway
from echod.websocket.factory import EchoFactory
from tests.fakes import make_factory
from tests.frames import TEXT, client_frame, handshake, server_frame
from tests.net.tls.certificates import certificates_of
from tests.tls import Certificate

REAL: Any = reactor


class TestStrings:
    """The strings of endpoints."""

    def test_other_kinds_are_left_alone(self) -> None:
        assert endpoint.parse("tcp:443") is None
        assert endpoint.parse("unix:/tls:ssl") is None

    def test_the_endpoint_below(self, certificate: Certificate) -> None:
        path = quoteStringArgument(str(certificate.path))
        folder = quoteStringArgument(str(certificate.path.parent))
        for text, below in (
            (f"ssl:443:privateKey={path}", "tcp:443:interface=:backlog=50"),
            (rf"ssl:port=443:privateKey={path}:interface=\:\:1:backlog=9", r"tcp:443:interface=\:\:1:backlog=9"),
            (f"tls:{folder}", "tcp:443:interface=:backlog=50"),
            (f"tls:{folder}:port=8443:interface=127.0.0.1", "tcp:8443:interface=127.0.0.1:backlog=50"),
        ):
            found = endpoint.parse(text)
            assert found is not None
            assert found[1] == below

    @pytest.mark.parametrize("text", ["ssl:", "ssl:1:sslmethod=TLSv1_METHOD", "tls", "tls:.:443:50:::too:many", "ssl"])
    def test_what_cant_be_used(self, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises((ValueError, OSError)):
            endpoint.parse(text)

    def test_an_unknown_argument_is_named(self) -> None:
        with pytest.raises(ValueError, match="ssl: got an unexpected keyword argument 'dhParameters'"):
            endpoint.parse("ssl:1:dhParameters=x")

    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("tls:", "tls: path"),
            ("tls::port=8443", "tls: path"),
            ("tls:path=", "tls: path"),
            ("tls:.:clientCa=", "tls: clientCa"),
            ("ssl:1:privateKey=", "ssl: privateKey"),
            ("ssl:1:certKey=", "ssl: certKey"),
            ("ssl:1:extraCertChain=", "ssl: extraCertChain"),
            ("ssl:1:clientCa=", "ssl: clientCa"),
        ],
    )
    def test_an_empty_path_is_not_the_working_directory(
        self, text: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Certificate(tmp_path / "server.pem")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match=f"^{name} is empty$"):
            endpoint.parse(text)

    def test_a_relative_path_starts_from_the_folder_of_the_start(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Certificate(tmp_path / "server.pem")
        monkeypatch.chdir(tmp_path)
        certificates = certificates_of("ssl:0")
        monkeypatch.chdir("/")
        assert certificates.reload()


class TestThrowawayStrings:
    """The strings of `throwaway:` endpoints."""

    @pytest.mark.parametrize(
        ("text", "below", "names", "fault"),
        [
            ("throwaway:8443", "tcp:8443:interface=:backlog=50", [], None),
            (
                r"throwaway:port=1:names=a.example,\:\:2:interface=192.0.2.7:backlog=9:fault=expired",
                "tcp:1:interface=192.0.2.7:backlog=9",
                ["a.example", "::2", "192.0.2.7"],
                Fault.EXPIRED,
            ),
            (r"throwaway:1:interface=\:\:", r"tcp:1:interface=\:\::backlog=50", [], None),
            ("throwaway:1:interface=eth0", "tcp:1:interface=eth0:backlog=50", [], None),
        ],
    )
    def test_what_can_be_asked_for(self, text: str, below: str, names: list[str], fault: Fault | None) -> None:
        found = endpoint.parse(text)
        assert found is not None
        throwaway, below_found = found
        assert isinstance(throwaway, Throwaway)
        assert (below_found, throwaway.fault) == (below, fault)
        assert {*names} <= {*throwaway.names}
        assert len(throwaway.names) <= 4 + len(names)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("throwaway", "throwaway: missing 1 required positional argument: 'port'"),
            ("throwaway:1:no=1", "throwaway: got an unexpected keyword argument 'no'"),
            ("throwaway:1:names=", "throwaway: names: '' is neither a host name nor an IP address"),
            ("throwaway:1:names=a,my_host", "throwaway: names: 'my_host' is neither a host name nor an IP address"),
            (
                "throwaway:1:fault=old",
                "throwaway: fault=old is none of expired, not-yet, wrong-name, self-signed, unknown-authority, tls1.2, "
                "weak-key",
            ),
            ("throwaway:1:names=a:fault=wrong-name", "throwaway: with fault=wrong-name there can be no names="),
        ],
    )
    def test_mistakes(self, text: str, why: str) -> None:
        with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole message is compared
            endpoint.parse(text)
        assert str(error.value) == why


def test_when_certificates_end(tmp_path: Path) -> None:
    """Of two certificates for the same names the first to end counts; endpoints without TLS have none, and throwaway
    certificates are not renewed."""
    (tmp_path / "folder").mkdir()
    first = Certificate(tmp_path / "folder" / "a.pem", ["a.example", "b.example"], age=2, rest=1)
    Certificate(tmp_path / "folder" / "b.pem", ["a.example", "b.example"], age=1)
    Certificate(tmp_path / "folder" / "c.pem", ["c.example"], age=2, rest=-1)
    newer = Certificate(tmp_path / "folder" / "d.pem", ["c.example"], age=1)
    nameless = Certificate(tmp_path / "nameless.pem", [])
    texts = [f"tls:{tmp_path}/folder:port=0", f"ssl:0:privateKey={nameless.path}", "tcp:0", "throwaway:0"]
    assert endpoint.ends([(text, parse_endpoint(REAL, text)) for text in texts]) == {
        (texts[0], "a.example, b.example"): first.certificate.not_valid_after_utc.timestamp(),
        (texts[0], "c.example"): newer.certificate.not_valid_after_utc.timestamp(),
        (texts[1], "no name"): nameless.certificate.not_valid_after_utc.timestamp(),
    }


class Answering(Protocol):
    """Answers with the address of the sender."""

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.write(data + f" from {transport.getPeer().host}".encode())
        transport.loseConnection()


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_the_endpoint_listens(prefix: str, certificate: Certificate) -> Generator[Any, Any, None]:
    """A proxy may send its header before it, in the clear, before the client's TLS hello."""
    made = parse_endpoint(REAL, f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    port: Any = yield made.listen(Factory.forProtocol(Answering))
    try:
        header = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 443\r\n" if prefix else b""
        answer = yield deferToThread(ask, port.getHost().port, header, certificate)
    finally:
        yield port.stopListening()
    assert answer == (b"hello from 203.0.113.7" if prefix else b"hello from 127.0.0.1")


@pytest_twisted.inlineCallbacks
def test_the_reason_for_a_refused_header_passes_through_tls(certificate: Certificate) -> Generator[Any, Any, None]:
    made = parse_endpoint(REAL, f"haproxy:ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    factory = make_factory(REAL)
    port: Any = yield made.listen(factory)
    with socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10) as client:
        client.sendall(b"\x16\x03\x01\x02\x00")
        assert (yield deferToThread(client.recv, 1)) == b""
    yield gatherResults([port.stopListening(), factory.drain()])
    assert factory.counts.refusals == {("none", "bad PROXY header"): 1}


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_a_reset_comes_after_the_echo_with_and_without_a_header(
    prefix: str, certificate: Certificate
) -> Generator[Any, Any, None]:
    echo, _ = yield talk(prefix, certificate, ask_for_reset)
    assert echo == server_frame(TEXT, b"hello")


@inlineCallbacks
def talk(
    prefix: str, certificate: Certificate, client: Callable[[int, bytes, Certificate], object]
) -> Generator[Any, Any, tuple[Any, EchoFactory]]:
    """Serve an endpoint while a client runs in a thread; return the client's result and the factory."""
    made = parse_endpoint(REAL, f"{prefix}ssl:0:interface=127.0.0.1:privateKey={certificate.path}")
    factory = make_factory(REAL)
    port: Any = yield made.listen(factory)
    header = b"PROXY TCP4 203.0.113.7 192.0.2.9 56324 443\r\n" if prefix else b""
    result = yield deferToThread(client, port.getHost().port, header, certificate)
    yield gatherResults([port.stopListening(), factory.drain()])
    return result, factory


def ask_for_reset(port: int, header: bytes, certificate: Certificate) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with certificate.client().wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(handshake("/?abort&after=1"))
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += client.recv(1000)
            client.sendall(client_frame(TEXT, b"hello"))
            return client.recv(100)


def ask(port: int, header: bytes, certificate: Certificate) -> bytes:
    context = certificate.client()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with context.wrap_socket(plain, server_hostname="localhost") as client:
            client.sendall(b"hello")
            answer = b""
            while piece := client.recv(100):
                answer += piece
            return answer


@pytest.mark.parametrize("prefix", ["", "haproxy:"])
@pytest_twisted.inlineCallbacks
def test_a_client_without_a_common_protocol_is_told(prefix: str, certificate: Certificate) -> Generator[Any, Any, None]:
    why, factory = yield talk(prefix, certificate, fail_over_protocol)
    assert "ALERT_NO_APPLICATION_PROTOCOL" in why.upper().replace(" ", "_")
    assert factory.counts.refusals == {("none", "TLS failed"): 1}


def fail_over_protocol(port: int, header: bytes, certificate: Certificate) -> str:
    context = certificate.client()
    context.set_alpn_protocols(["imap"])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        plain.sendall(header)
        with pytest.raises(ssl.SSLError) as error:
            context.wrap_socket(plain, server_hostname="localhost")
        return str(error.value)

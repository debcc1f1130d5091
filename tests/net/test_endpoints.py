"""Endpoint strings: the endpoints that they become, and the message for a mistake."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.endpoints import AdoptedStreamServerEndpoint, TCP4ServerEndpoint, UNIXServerEndpoint

from echod.net.endpoints import parse_endpoint
from echod.net.tls import endpoint as tls_endpoint
from echod.net.tls.pem import FileFault
from echod.upstream.endpoints import adopted_descriptor
from tests.tls import Certificate

REAL: Any = reactor


@pytest.mark.parametrize(("text", "kind"), [("tcp:0", TCP4ServerEndpoint), ("unix:/no/such", UNIXServerEndpoint)])
def test_a_string_becomes_an_endpoint_of_its_type(text: str, kind: type) -> None:
    assert isinstance(parse_endpoint(REAL, text), kind)


@pytest.mark.parametrize("text", ["tcp:8080", "unix:/no/such"])
def test_a_worker_uses_the_socket_of_its_parent(text: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        endpoint = parse_endpoint(REAL, text, passed.fileno())
        assert isinstance(endpoint, AdoptedStreamServerEndpoint)
        assert adopted_descriptor(endpoint) == passed.fileno()


def test_an_endpoint_with_tls_has_certificates(certificate: Certificate) -> None:
    assert isinstance(parse_endpoint(REAL, f"haproxy:ssl:0:privateKey={certificate.path}"), tls_endpoint.Endpoint)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("9000", "a port is tcp:9000"),
        (":9000", "a port is tcp:9000"),
        ("127.0.0.1:9000", "this address and port are tcp:9000:interface=127.0.0.1"),
        ("[::1]:9000", r"this address and port are tcp:9000:interface=\:\:1"),
        ("*:9000", "a port is tcp:9000"),
        ("localhost:9000", "this address and port are tcp:9000:interface=localhost"),
        ("haproxy:9000", "a port is haproxy:tcp:9000"),
        ("haproxy:[::1]:9000", r"this address and port are haproxy:tcp:9000:interface=\:\:1"),
        ("999999", "Unknown endpoint type: '999999'"),
        ("tpc:9000", "Unknown endpoint type: 'tpc'"),
        ("echod.example:9000", "Unknown endpoint type: 'echod.example'"),
        ("tcp", "tcp: missing 1 required positional argument: 'port'"),
        # For a name that is nearly right, Python 3.13 would suggest the right one.
        ("tcp:9000:colour=red", "tcp: got an unexpected keyword argument 'colour'"),
        ("ssl:9000:key=a.pem", "ssl: got an unexpected keyword argument 'key'"),
        ("haproxy:tcp:http", "'http' is not a number"),
        ("tcp:", "'' is not a number"),
        ("tcp:65536", "65536 is not a port from 0 to 65535"),
        ("tcp6:-1", "-1 is not a port from 0 to 65535"),
        ("throwaway:99999", "99999 is not a port from 0 to 65535"),
        ("unix:/run/echod:mode=rw", "'rw' is not an octal number"),
        ("tcp=9000", "it has no type, such as tcp:"),
        ("systemd:domain=INET:index=0", "systemd passed no such socket"),
    ],
)
def test_a_mistake_is_explained_in_an_operators_words(text: str, meant: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011  # the whole message is compared
        parse_endpoint(REAL, text)
    assert str(error.value) == f"is not a server endpoint: {meant}"


def test_a_file_that_cant_be_used_is_another_error(tmp_path: Path) -> None:
    with pytest.raises(FileFault, match=r"^/.*/none: No such file or directory$"):
        parse_endpoint(REAL, f"ssl:0:privateKey={tmp_path}/none")

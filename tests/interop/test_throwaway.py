"""`throwaway:` endpoints as clients see them that trust their authority: openssl, Python's ssl, and Node.

tests/browser/test_throwaway.py has Chromium.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from echod.net.tls.throwaway import Fault
from tests.client import Client
from tests.daemon import Daemon, run
from tests.loop import needed_native
from tests.tls import trusting
from tests.tools import needed

FAULTS = {
    None: "TLSv1.3",
    Fault.EXPIRED: "certificate has expired",
    Fault.NOT_YET: "certificate is not yet valid",
    Fault.WRONG_NAME: "hostname mismatch",
    Fault.SELF_SIGNED: "self-signed certificate",
    Fault.UNKNOWN_AUTHORITY: "unable to get local issuer certificate",
    Fault.TLS_1_2: "TLSv1.2",
    Fault.WEAK_KEY: "EE certificate key too weak",
}
"""What OpenSSL says: the version of TLS, or its objection."""

OF_NODE = {
    None: "TLSv1.3",
    Fault.EXPIRED: "CERT_HAS_EXPIRED",
    Fault.NOT_YET: "CERT_NOT_YET_VALID",
    Fault.WRONG_NAME: "ERR_TLS_CERT_ALTNAME_INVALID",
    Fault.SELF_SIGNED: "DEPTH_ZERO_SELF_SIGNED_CERT",
    Fault.UNKNOWN_AUTHORITY: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    Fault.TLS_1_2: "TLSv1.2",
    Fault.WEAK_KEY: "EE certificate key too weak",
}
"""What Node says: the version, or the code of the error; for a weak key some versions of Node have no code."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "tls.md"

NODE = """
const [port, authority] = process.argv.slice(1);
const ca = require("fs").readFileSync(authority);
const socket = require("tls").connect({ host: "127.0.0.1", port, servername: "localhost", ca });
socket.on("secureConnect", () => { console.log(socket.getProtocol()); socket.destroy(); });
socket.on("error", (error) => console.log(error.code, error.message));
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """Run a daemon with an endpoint for each fault."""
    ports = ["throwaway:0:interface=127.0.0.1" + (f":fault={fault}" if fault else "") for fault in FAULTS]
    with Daemon("--authority-file", "authority.pem", ports=ports) as daemon:
        yield daemon


def ask_openssl(port: int, authority: Path) -> str:
    words = ("-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-verify_hostname", "localhost")
    trust = ("-CAfile", str(authority), "-verify_return_error", "-brief")
    done = run(needed("openssl"), "s_client", *words, *trust)
    return done.stdout + done.stderr


def ask_python(port: int, authority: Path, name: str = "localhost") -> str:
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python's default from 3.13 on
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            return secure.version() or ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message


def ask_node(port: int, authority: Path) -> str:
    done = run(needed("node", "nodejs"), "-e", NODE, str(port), str(authority))
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["127.0.0.1", "::1", socket.gethostname()])
def test_the_other_names_are_right_too(daemon: Daemon, name: str) -> None:
    assert ask_python(daemon.port, daemon.folder / "authority.pem", name) == "TLSv1.3"


def test_the_document_says_what_clients_say() -> None:
    """tests/browser/test_throwaway.py compares the column of Chromium."""
    rows = re.findall(
        r"^\| `([a-z0-9.-]+)` \| (?:[^|]+) \| ([^|]+) \| ([^|]+) \| [^|]+ \|$", DOCUMENT.read_text(), re.M
    )
    assert [name for name, _, _ in rows] == list(Fault)
    for name, of_openssl, of_node in rows:
        assert f"`{FAULTS[Fault(name)]}`" in of_openssl
        assert f"`{OF_NODE[Fault(name)]}`" in of_node


@pytest.mark.parametrize("fault", [None, Fault.TLS_1_2])
def test_the_lane_serves_the_connections(daemon: Daemon, fault: Fault | None) -> None:
    needed_native()
    port = int(daemon.urls[list(FAULTS).index(fault)].rpartition(":")[2])
    client = Client(("127.0.0.1", port), trusting(cafile=daemon.folder / "authority.pem"), "/info")
    assert json.loads(client.frame().payload)["lane"] == "pump"
    assert client.echo() == b"hello"
    client.socket.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("ask", "words"), [(ask_openssl, FAULTS), (ask_python, FAULTS), (ask_node, OF_NODE)])
def test_what_a_client_says(
    daemon: Daemon, fault: Fault | None, ask: Callable[[int, Path], str], words: dict[Fault | None, str]
) -> None:
    port = int(daemon.urls[list(FAULTS).index(fault)].rpartition(":")[2])
    assert words[fault].lower() in ask(port, daemon.folder / "authority.pem").lower()

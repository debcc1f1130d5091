"""TLS as other programs see it: OpenSSL's own client, and sslyze, which looks for all that would lower a grade."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.daemon import Daemon, run
from tests.system.proxies import find_tool
from tests.tls import Certificate
from tests.tools import needed

SCAN_DEADLINE = 600.0

MODERN = ("tls_1_2_cipher_suites", "tls_1_3_cipher_suites")

CURVES = {"X25519", "secp256r1", "secp384r1"}


@pytest.fixture(scope="module", params=["EC", "RSA"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon with a certificate for `localhost`, for each common kind of key."""
    path = tmp_path_factory.mktemp("served") / "localhost.pem"
    Certificate(path, key=rsa.generate_private_key(65537, 2048) if request.param == "RSA" else None)
    with Daemon(ports=[f"ssl:0:interface=127.0.0.1:privateKey={path}"]) as daemon:
        yield daemon


def s_client(daemon: Daemon, *options: str, say: str = "Q\n") -> str:
    """Return the output of `openssl s_client` for one connection."""
    command = [needed("openssl"), "s_client", "-connect", f"127.0.0.1:{daemon.port}", *options]
    done = subprocess.run(command, input=say, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


class TestOpenssl:
    """`openssl s_client`."""

    @pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
    def test_what_is_served(self, served: Daemon, option: str, version: str) -> None:
        printed = s_client(served, option, "-alpn", "h2,http/1.1")
        assert re.search(
            f"^New, {version}, Cipher is (ECDHE-(ECDSA|RSA)-AES256-GCM-SHA384|TLS_AES_256_GCM_SHA384)$",
            printed,
            re.MULTILINE,
        )
        assert "Server Temp Key: X25519" in printed
        assert "ALPN protocol: h2\n" in printed
        assert "Compression: NONE" in printed

    def test_a_client_without_http2(self, served: Daemon) -> None:
        assert "ALPN protocol: http/1.1\n" in s_client(served, "-alpn", "http/1.1")

    @pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
    def test_no_protocol_in_common(self, served: Daemon, option: str) -> None:
        printed = s_client(served, option, "-alpn", "h3,http/1.0")
        assert "alert no application protocol" in printed
        assert "No ALPN negotiated" in printed

    @pytest.mark.parametrize(
        "options",
        [
            ("-tls1", "-cipher", "ALL:@SECLEVEL=0"),
            ("-tls1_1", "-cipher", "ALL:@SECLEVEL=0"),
            ("-tls1_2", "-cipher", "AES128-GCM-SHA256:AES256-SHA:AES128-SHA"),  # no forward secrecy
            (
                "-tls1_2",
                "-cipher",
                "ECDHE-ECDSA-AES256-SHA384:ECDHE-RSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA",
            ),  # CBC
            ("-tls1_2", "-cipher", "DHE-RSA-AES256-GCM-SHA384"),
            ("-tls1_3", "-groups", "secp521r1"),
        ],
        ids=" ".join,
    )
    def test_what_is_refused(self, served: Daemon, options: tuple[str, ...]) -> None:
        printed = s_client(served, *options)
        assert "Cipher is (NONE)" in printed
        assert "alert" in printed

    def test_a_client_can_not_renegotiate(self, served: Daemon) -> None:
        printed = s_client(served, "-tls1_2", say="R\nafter\n")
        assert "RENEGOTIATING" in printed
        assert "no renegotiation" in printed

    def test_each_handshake_is_a_full_one(self, served: Daemon) -> None:
        printed = s_client(served, "-tls1_2", "-reconnect")
        assert printed.count("New, TLSv1.2") == 6
        assert "Reused" not in printed

    def test_a_clients_certificate(self, tmp_path: Path) -> None:
        server, authority = Certificate(tmp_path / "server"), Certificate(tmp_path / "authority", ["Ours"])
        Certificate(tmp_path / "client", ["client"], issuer=authority)
        (tmp_path / "trusted").write_bytes(authority.pem)
        request = "GET /json HTTP/1.0\r\n\r\n"
        with Daemon(
            ports=[f"ssl:0:interface=127.0.0.1:privateKey={server.path}:clientCa={tmp_path}/trusted"]
        ) as daemon:
            refused = s_client(daemon, "-ign_eof", say=request)
            assert "Acceptable client certificate CA names\nCN = Ours" in refused
            assert "alert certificate required" in refused
            assert "HTTP/1.1" not in refused
            assert "HTTP/1.1 426" in s_client(daemon, "-ign_eof", "-cert", str(tmp_path / "client"), say=request)


def findings(result: dict[str, Any]) -> dict[str, object]:
    """Return sslyze's findings that would lower a grade. That nobody trusts the certificate is only due to the
    tests."""
    scans = {name: scan["result"] for name, scan in result["scan_result"].items()}
    suites = {name: scan["accepted_cipher_suites"] for name, scan in scans.items() if name.endswith("_cipher_suites")}
    renegotiation = scans["session_renegotiation"]
    found = {
        "old versions": [name for name, accepted in suites.items() if accepted and name not in MODERN],
        "weak": [each["cipher_suite"]["name"] for name in MODERN for each in suites[name] if is_weak(each)],
        "curves": {curve["name"] for curve in scans["elliptic_curves"]["supported_curves"]} - CURVES,
        "Heartbleed": scans["heartbleed"]["is_vulnerable_to_heartbleed"],
        "CCS injection": scans["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"],
        "ROBOT": not scans["robot"]["robot_result"].startswith("NOT_VULNERABLE"),
        "renegotiation by the client": renegotiation["is_vulnerable_to_client_renegotiation_dos"],
        "insecure renegotiation": not renegotiation["supports_secure_renegotiation"],
        "compression": scans["tls_compression"]["supports_compression"],
        "downgrade": not scans["tls_fallback_scsv"]["supports_fallback_scsv"],
        "no extended master secret": not scans["tls_extended_master_secret"]["supports_ems_extension"],
    }
    return {name: what for name, what in found.items() if what}


def is_weak(accepted: dict[str, Any]) -> bool:
    """Tell whether a cipher suite lacks forward secrecy or authenticated encryption, or has short keys."""
    suite, ephemeral = accepted["cipher_suite"], accepted["ephemeral_key"]
    is_short = suite["key_size"] < 128 or ephemeral is None or ephemeral["size"] < 250
    return is_short or suite["is_anonymous"] or not ("GCM" in suite["name"] or "POLY1305" in suite["name"])


def test_sslyze_finds_nothing(served: Daemon, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = run(
        find_tool("sslyze"), f"--json_out={report}", f"localhost:{served.port}", cwd=tmp_path, deadline=SCAN_DEADLINE
    )
    (result,) = json.loads(report.read_text())["server_scan_results"]
    assert result["connectivity_status"] == "COMPLETED", done.stdout
    assert findings(result) == {}
    # sslyze's own verdict by Mozilla's profile "intermediate", without the complaint about an untrusted certificate.
    verdict = done.stdout.partition("COMPLIANCE")[2]
    assert "Checking results against Mozilla" in verdict
    complaints = re.findall(r"^ +\* .+$", verdict, re.MULTILINE)
    assert [each for each in complaints if "certificate_path_validation" not in each] == []

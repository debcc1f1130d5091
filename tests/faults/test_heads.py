"""Malformed heads keep everything else of a head, whatever its status. tests/test_faults_daemon.py has their bytes."""

from __future__ import annotations

import pytest

from echod.faults.heads import HEADS

HEAD = b"HTTP/1.1 503 Service Unavailable\r\nDate: now\r\nConnection: close\r\n\r\n"

MADE = {
    "bare-lf": HEAD.replace(b"\r\n", b"\n"),
    "folded": HEAD.replace(b"Date: now", b"Date:\r\n now"),
    "nul": HEAD[:-2] + b"X-Echod: a\0b\r\n\r\n",
    "no-blank-line": HEAD[:-2],
    "http-1.0": HEAD.replace(b"1.1", b"1.0"),
    "status-200": HEAD.replace(b"503 Service Unavailable", b"200 OK"),
    "reason-missing": HEAD.replace(b" Service Unavailable", b""),
    "non-ascii": HEAD[:-2] + b"X-Echod: gr\xfc\xdfe\r\n\r\n",
    "endless": (HEAD[:-2] + 3 * (b"X-Echod: " + 89 * b"x" + b"\r\n"))[:200],
    "junk-before": b"junk\r\n" + HEAD,
}


@pytest.mark.parametrize("name", HEADS)
def test_a_refusal_can_be_malformed_too(name: str) -> None:
    assert HEADS[name].make(HEAD, 200) == MADE[name]
    assert HEADS[name].does.endswith(".")
    assert HEADS[name].client.endswith(".")
    assert HEADS[name].rfc.startswith("RFC ")

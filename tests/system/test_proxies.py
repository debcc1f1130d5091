"""Behind Debian's HAProxy, with the sample configurations of etc/haproxy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import fronts
from tests.system.proxies import SAMPLES
from tests.tls import Certificate

NAMES = ["haproxy-http", "haproxy-tcp"]


@pytest.mark.parametrize("name", NAMES)
def test_messages(name: str, certificate: Certificate) -> None:
    fronts.check_messages(SAMPLES[name], certificate)


@pytest.mark.parametrize("name", NAMES)
def test_the_clients_address(name: str, certificate: Certificate) -> None:
    fronts.check_address(SAMPLES[name], certificate)


def test_the_clients_address_by_version_1_of_the_proxy_header(certificate: Certificate) -> None:
    fronts.check_address(SAMPLES["haproxy-tcp"], certificate, {"send-proxy-v2": "send-proxy"})


@pytest.mark.parametrize("name", NAMES)
def test_idle_connections(name: str, certificate: Certificate) -> None:
    fronts.check_idle(SAMPLES[name], certificate)


@pytest.mark.parametrize("name", NAMES)
def test_rolling_restart(name: str, certificate: Certificate) -> None:
    fronts.check_rolling_restart(SAMPLES[name], certificate)


def test_a_copy_that_is_full(certificate: Certificate) -> None:
    fronts.check_full(SAMPLES["haproxy-http"], certificate)


def test_certificates_by_name(tmp_path: Path) -> None:
    fronts.check_names(SAMPLES["haproxy-tcp"], tmp_path)

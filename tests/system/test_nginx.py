"""Behind Debian's nginx, with the sample configurations of etc/nginx."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.system import fronts
from tests.system.proxies import SAMPLES
from tests.tls import Certificate

NAMES = ["nginx-http", "nginx-stream"]


@pytest.mark.parametrize("name", NAMES)
def test_messages(name: str, certificate: Certificate) -> None:
    fronts.check_messages(SAMPLES[name], certificate)


@pytest.mark.parametrize("name", NAMES)
def test_the_clients_address(name: str, certificate: Certificate) -> None:
    """By X-Forwarded-For, and by version 1 of the PROXY header, which is the one that nginx sends."""
    fronts.check_address(SAMPLES[name], certificate)


@pytest.mark.parametrize("name", NAMES)
def test_idle_connections(name: str, certificate: Certificate) -> None:
    fronts.check_idle(SAMPLES[name], certificate)


@pytest.mark.parametrize("name", NAMES)
def test_rolling_restart(name: str, certificate: Certificate) -> None:
    fronts.check_rolling_restart(SAMPLES[name], certificate)


def test_a_copy_that_is_full(certificate: Certificate) -> None:
    fronts.check_full(SAMPLES["nginx-http"], certificate)


def test_certificates_by_name(tmp_path: Path) -> None:
    fronts.check_names(SAMPLES["nginx-stream"], tmp_path)

"""The image of the Containerfile: as small as promised, healthy by its own check, and ended cleanly.

Knows what an image's configuration must contain. image.py knows how to build and run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echod import __version__
from tests.daemon import wait_until
from tests.system.image import COMPILER, Container, Storage, download_wheels
from tests.tools import needed

NAME = "localhost/echod"
BASE = "localhost/base"
BUILD_BASE = "localhost/build-base"


@pytest.fixture(scope="module")
def storage(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """Yield a store that holds the image."""
    needed("buildah")
    storage = Storage(tmp_path_factory.mktemp("storage"))
    wheels = tmp_path_factory.mktemp("wheels")
    try:
        storage.import_base(BASE, bare)
        storage.add_packages(BUILD_BASE, BASE, COMPILER)
        download_wheels(wheels)
        storage.build(NAME, wheels, BUILD_BASE, BASE)
        yield storage
    finally:
        storage.remove()


@pytest.fixture(scope="module")
def config(storage: Storage) -> dict[str, Any]:
    """Return the configuration of the image."""
    return storage.config(NAME)


@pytest.fixture(scope="module")
def root(storage: Storage) -> Path:
    """Return the root folder of the image's files."""
    return storage.mount(NAME)


def test_what_the_image_says_of_itself(config: dict[str, Any]) -> None:
    user, group = config["User"].split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert config["StopSignal"] == "SIGTERM"
    assert "8080/tcp" in config["ExposedPorts"]
    # A list, because a shell between would keep the signal to itself.
    assert config["Entrypoint"] == ["env", "--block-signal=TERM", "echod", "serve"]


def test_neither_compiler_nor_pip_nor_a_test_is_in_it(root: Path) -> None:
    assert not list((root / "usr/bin").glob("*gcc*"))
    home = root / "opt/echod"
    assert not list(home.glob("bin/pip*"))
    assert not list(home.glob("lib/python3.*/site-packages/pip"))
    assert len(list(home.glob("lib/python3.*/site-packages/echod/lane/native/_native.*.so"))) == 1
    assert not (root / "src").exists()
    assert not (root / "build").exists()


def test_it_serves_where_nothing_can_be_written(root: Path, config: dict[str, Any]) -> None:
    with Container(root, config) as container:
        assert "express lane: pump and codec" in container.output()
        for path in ("/", "/tmp", "/opt/echod", "/var/tmp"):
            done = container.run("touch", f"{path}/file")
            assert done.returncode == 1, path
        assert "Read-only file system" in done.stderr
        done = container.check_health()
        assert done.returncode == 0, done.stdout + done.stderr
        facts = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{container.pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert {facts[name].strip("0") for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "CapInh")} == {""}
        # The daemon is process 1: no init and no shell precedes it.
        assert facts["NSpid"].split()[-1] == "1"
        assert container.stop() == 0
        output = container.output()
        assert "Traceback" not in output
        # Twisted logs this about a list of plugins that is out of date.
        assert "dropin.cache" not in output


def test_it_takes_options_and_is_unhealthy_if_the_check_finds_no_server(root: Path, config: dict[str, Any]) -> None:
    with Container(root, config, "--port", "tcp:9000", "--log-format", "json") as container:
        wait_until(lambda: "ws://[::]:9000 (IPv6 and IPv4)" in container.output(), "the port that was asked for")
        assert f"echod {__version__}" in container.output()
        done = container.check_health()
        assert done.returncode == 2, done.stdout + done.stderr
        assert container.stop() == 0

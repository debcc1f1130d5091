"""The image of the Containerfile, built by buildah on a Debian instead of a registry's Python, and what it is to run.

Knows buildah. Must never know what the image serves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.system import nspawn

ROOT = Path(__file__).parents[2]

BUILD_DEADLINE = 600
"""Seconds."""

COMPILER = ("gcc", "libc6-dev", "python3-dev")
"""What the base of the first stage has beside the other's."""


def buildah(*arguments: str) -> str:
    """Run buildah and return what it printed."""
    done = subprocess.run(["buildah", *arguments], capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
    assert done.returncode == 0, f"buildah {' '.join(arguments)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout.strip()


def import_base(root: Path, name: str, packages: tuple[str, ...] = ()) -> None:
    """Make an image of a root folder, with Debian packages added."""
    container = buildah("from", "scratch")
    try:
        buildah("copy", "--quiet", container, str(root), "/")
        if packages:
            script = f"apt-get -qq update && apt-get -qq -y --no-install-recommends install {' '.join(packages)}"
            environment = ["--env=DEBIAN_FRONTEND=noninteractive", "--user=root"]
            buildah("run", "--isolation=chroot", *environment, container, "--", "sh", "-c", script)
        buildah("commit", "--quiet", container, name)
    finally:
        buildah("rm", container)


def download_wheels(folder: Path) -> None:
    """Have pip fetch what echod and its build need, as the build itself has no network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--dest", str(folder), *needed]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def build(name: str, wheels: Path, build_base: str, base: str) -> None:
    """Build the image, as docs/packaging.md says for a machine without a network; without the express lane it is none."""
    values = {"BUILD_BASE": build_base, "BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "ECHOD_NATIVE": "1"}
    arguments = [f"--build-arg={key}={value}" for key, value in values.items()]
    buildah("build", "--isolation=chroot", "--format=docker", *arguments, f"--volume={wheels}:/wheels:ro", f"--tag={name}", str(ROOT))


def config(name: str) -> dict[str, Any]:
    """Return an image's configuration, as the engine that runs it reads it."""
    found: dict[str, Any] = json.loads(buildah("inspect", "--type=image", name))["Docker"]["config"]
    return found


@contextmanager
def mounted(name: str) -> Iterator[Path]:
    """Give the root folder of a container made of an image."""
    container = buildah("from", name)
    try:
        yield Path(buildah("mount", container))
    finally:
        buildah("rm", container)

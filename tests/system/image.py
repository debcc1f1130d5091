"""The image of the Containerfile: built by buildah on a Debian instead of a registry's Python image, and run as its
configuration says.

The image runs on a read-only file system, with no network except loopback, without privileges, as a user that no file
of the image names. systemd-nspawn runs it, because container engines require more of a machine than tests can assume.

Knows buildah, its storage, and systemd-nspawn. Must never know what the image serves.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.daemon import wait_until
from tests.system.nspawn import command_line

ROOT = Path(__file__).parents[2]

BUILD_DEADLINE = 1200
"""Seconds."""

COMPILER = ("gcc", "libc6-dev", "python3-dev")
"""The packages of the first stage's base that the other base lacks."""


STOP_DEADLINE = 60

CHECK_DEADLINE = 60


class Storage:
    """A store for images in a folder of its own, which exists until `remove`."""

    def __init__(self, folder: Path) -> None:
        self._options = [f"--root={folder}/root", f"--runroot={folder}/run"]

    def buildah(self, command: str, *arguments: str) -> str:
        """Run buildah, and return its output."""
        whole = ["buildah", *self._options, command, *arguments]
        done = subprocess.run(whole, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
        assert done.returncode == 0, f"{' '.join(whole)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def import_base(self, name: str, root: Path) -> None:
        """Make an image from a root folder."""
        container = self.buildah("from", "scratch")
        self.buildah("copy", "--quiet", container, str(root), "/")
        self.buildah("commit", "--quiet", "--rm", container, name)

    def add_packages(self, name: str, base: str, packages: tuple[str, ...]) -> None:
        """Make an image from another one by adding Debian packages."""
        container = self.buildah("from", base)
        script = f"apt-get -qq update && apt-get -qq -y --no-install-recommends install {' '.join(packages)}"
        self.buildah(
            "run", "--isolation=chroot", "--env=DEBIAN_FRONTEND=noninteractive", container, "--", "sh", "-c", script
        )
        self.buildah("commit", "--quiet", "--rm", container, name)

    def build(self, name: str, wheels: Path, build_base: str, base: str) -> None:
        """Build the image as docs/packaging.md says for a machine without a network. Without the express lane the build
        fails."""
        values = {
            "BUILD_BASE": build_base,
            "BASE": base,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": "/wheels",
            "ECHOD_NATIVE": "1",
        }
        arguments = [f"--build-arg={key}={value}" for key, value in values.items()]
        volume = f"--volume={wheels}:/wheels:ro"
        self.buildah("build", "--isolation=chroot", "--format=docker", *arguments, volume, f"--tag={name}", str(ROOT))

    def config(self, name: str) -> dict[str, Any]:
        """Return an image's configuration as an engine reads it."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type=image", name))["Docker"]["config"]
        return found

    def mount(self, name: str) -> Path:
        """Return the root folder of a new container of an image."""
        return Path(self.buildah("mount", self.buildah("from", name)))

    def remove(self) -> None:
        """Unmount and remove all containers and images."""
        self.buildah("rm", "--all")
        self.buildah("rmi", "--all", "--force")


def download_wheels(folder: Path) -> None:
    """Download with pip what echod and its build need, because the build itself has no network."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
        "--dest",
        str(folder),
        *needed,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_DEADLINE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Container:
    """A context manager that runs what an image's configuration says, in the image's root folder, with further
    arguments."""

    def __init__(self, root: Path, config: dict[str, Any], *arguments: str) -> None:
        self._root = root
        self._config = config
        self._arguments = arguments
        user, _, group = config["User"].partition(":")
        self._user, self._group = int(user), int(group)

    def __enter__(self) -> Self:
        """Start the container, and wait until it listens."""
        self._output = tempfile.TemporaryFile("w+")
        # Become root without any capability, and then another user. nspawn can't do the latter, because the image has
        # no user with a name for it.
        become = [
            "setpriv",
            f"--reuid={self._user}",
            f"--regid={self._group}",
            "--clear-groups",
            "--no-new-privs",
            "--bounding-set=-all",
        ]
        environment = [f"--setenv={line}" for line in self._config["Env"]]
        self._process = subprocess.Popen(
            [
                *command_line(self._root, "--read-only", *environment, f"--chdir={self._config['WorkingDir']}", "--"),
                *[
                    *become,
                    "--inh-caps=-all",
                    "--",
                    *self._config["Entrypoint"],
                    *(self._config["Cmd"] or []),
                    *self._arguments,
                ],
            ],
            # nspawn would otherwise mount a writable /tmp.
            env={**os.environ, "SYSTEMD_NSPAWN_TMPFS_TMP": "0"},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(self._has_started, "the container to listen", CHECK_DEADLINE)
        except BaseException as error:
            error.add_note(self.output())
            self._end()
            raise
        return self

    def _has_started(self) -> bool:
        assert self._process.poll() is None, f"the container ended with {self._process.returncode}"
        return "max-message-size" in self.output()

    @property
    def pid(self) -> int:
        """The pid of the entry point's process, as this system numbers it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        return next(
            int(child) for child in children if f"Uid:\t{self._user}\t" in Path(f"/proc/{child}/status").read_text()
        )

    def output(self) -> str:
        """Return the container's output so far."""
        self._output.seek(0)
        return self._output.read()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container as the same user and with the same environment."""
        inside = [
            "nsenter",
            f"--target={self.pid}",
            "--all",
            f"--setuid={self._user}",
            f"--setgid={self._group}",
            "--wdns=/",
            "--",
        ]
        whole = [*inside, "env", "-i", *self._config["Env"], *command]
        return subprocess.run(whole, capture_output=True, text=True, timeout=CHECK_DEADLINE, check=False, cwd="/")

    def check_health(self) -> subprocess.CompletedProcess[str]:
        """Run the health check of the image."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.run(*command)

    def stop(self) -> int:
        """Stop the container as an engine does, and return its exit status."""
        os.kill(self.pid, signal.Signals[self._config["StopSignal"]])
        return self._process.wait(STOP_DEADLINE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the container, unless it was stopped."""
        if error is not None:
            error.add_note(self.output())
        self._end()

    def _end(self) -> None:
        if self._process.poll() is None:
            with suppress(StopIteration, ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGKILL)
            try:
                self._process.wait(STOP_DEADLINE)
            finally:
                self._process.kill()
                self._process.wait()
        self._output.close()

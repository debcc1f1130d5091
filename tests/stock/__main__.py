"""Runs the README's lines that install and try echod, on a bare Debian by debootstrap: `python -m tests.stock RELEASE`.

First it runs without a C compiler, then with one. Commands that install have this machine's network. Commands that
serve or test have a network of their own with only loopback, in which port 8080 is free.

Knows debootstrap's Debian, and what this machine needs to reach package registries. Must never replace the README's
knowledge of how to install or what to run.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.stock.readme import Readme
from tests.system import nspawn

ROOT = Path(__file__).parents[2]

CHECKOUT = "/root/echod"

IN_PROCESS = "make compatibility NOX='--session in_process{}'"
"""The tests that start no daemon."""

NO_C = " -- --ignore=tests/lane/native"
"""What leaves out those of the C code by itself, which is the same under each Python of a release."""

COMPILED = "tests/lane/native/test_build.py tests/lane/native/test_load.py"
"""The tests of building with a compiler if other tools are missing. What was built does the same as where all tools
are."""

ALL_LANES = re.compile(r"express lane: pump and codec \(\w+\)$", re.MULTILINE)
"""The daemon's start line if nothing is missing; a missing part would be named after it."""

NO_LANE = re.compile(r"express lane: off, Autobahn serves everything$", re.MULTILINE)

PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host", "default-timeout")
"""The settings with which pip reaches a registry, besides `cert`."""

CERTIFICATES = "/mnt/certificates.pem"
"""The place in the root folder for the authorities that pip is to trust, if this machine names any."""

PACKAGE_CACHE, PIP_CACHE = "/var/cache/apt/archives", "/root/.cache/pip"


class Stock:
    """A bare Debian with a checkout of echod."""

    def __init__(self, root: Path, release: str) -> None:
        pip = _pip_settings()
        self._root = root
        self._binds = [f"--bind={nspawn.package_cache(release)}:{PACKAGE_CACHE}", f"--bind={_pip_cache()}:{PIP_CACHE}"]
        if certificates := pip.pop("cert", None):
            self._binds.append(f"--bind-ro={certificates}:{CERTIFICATES}")
            pip["cert"] = CERTIFICATES
        self._environment = [f"PIP_{name.upper().replace('-', '_')}={value}" for name, value in pip.items()]
        self._environment.append("DEBIAN_FRONTEND=noninteractive")
        self._environment += [f"CI={os.environ['CI']}"] if "CI" in os.environ else []
        (root / "etc/apt/apt.conf.d/90stock").write_text(_apt_settings())
        # Debian's installer writes this file. debootstrap does so only from Debian 13 on.
        (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n")
        _copy_checkout(root / CHECKOUT.removeprefix("/"))

    def run(self, script: str, has_network: bool = False) -> str:
        """Run a shell script in the checkout. Show its output as it comes, and return it. The script must succeed."""
        begun = os.times()
        print(f"$ {script}", flush=True)
        inside = nspawn.command_line(
            self._root, *self._binds, f"--chdir={CHECKOUT}", "--as-pid2", has_network=has_network
        )
        printed = []
        with subprocess.Popen(
            [*inside, *nspawn.ENVIRONMENT, *self._environment, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                printed.append(line)
                print(line, end="", flush=True)
        if process.returncode:
            sys.exit(f"exit status {process.returncode}: {script}")
        user, system, elapsed = (after - before for after, before in zip(os.times()[2:], begun[2:], strict=True))
        print(f"- took {elapsed:.1f} s, with {user + system:.1f} s of processor time", flush=True)
        return "".join(printed)

    def serve(self, run: str, command: str) -> str:
        """Run a command while `run` serves, as if in a second terminal; return the output of both."""
        has_started = "grep -qs 'max-message-size' served.log"
        wait = f"until {has_started}; do kill -0 $! || break; sleep 0.2; done"
        # Remove the log first: the output of an earlier start says nothing about this one.
        return self.run(
            f"rm -f served.log\n{run} >served.log 2>&1 &\n{wait}\ncat served.log; {has_started} || exit 1\n{command}"
        )


def _pip_settings() -> dict[str, str]:
    """Return this machine's pip settings for reaching a registry. The environment overrides them."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    found = re.findall(r"^(\S+)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE)
    found.sort(key=lambda setting: setting[0] == ":env:")
    settings = {name: value for _, name, value in found if name in (*PIP_SETTINGS, "cert")}
    # Folders of this machine are not visible in the root folder.
    addresses = {
        name: " ".join(word for word in value.split() if not word.startswith("file:"))
        for name, value in settings.items()
    }
    return {name: value for name, value in addresses.items() if value}


def _apt_settings() -> str:
    """Return this machine's apt settings for fetching packages, and the setting that answers yes to all questions."""
    fetching = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    return f'{fetching}APT::Get::Assume-Yes "true";\n'


def _pip_cache() -> Path:
    cache = nspawn.FOLDER / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def _copy_checkout(to: Path) -> None:
    """Copy the files of this checkout that git knows, in their current state."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    to.mkdir(parents=True)
    packed = subprocess.run(
        ["tar", "--null", "--files-from=-", "--create"], cwd=ROOT, input=listed, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "--extract", "--no-same-owner"], cwd=to, input=packed, check=True)


def follow(readme: Readme, stock: Stock, tests: Sequence[str], has_compiler: bool) -> None:
    """Run the section's lines. Then check who serves messages, and run the `tests`, if there are any."""
    lane, served_by = (ALL_LANES, "pump") if has_compiler else (NO_LANE, "autobahn")
    # What the targets of make prepare by themselves, as far as that needs a registry.
    stock.run("make .venv/.run && .venv/bin/python --version", has_network=True)
    printed = stock.serve(readme.run, f"{readme.path}\n{readme.to_try}")
    _expect(readme.printed in printed, f"the line to try to print {readme.printed}")
    _expect(bool(lane.search(printed)), f"the start to say {lane.pattern}")
    stock.run(" && ".join(readme.install), has_network=True)
    printed = stock.serve(f"{readme.path_of_pip}\n{readme.serve}", readme.to_try)
    _expect(readme.printed in printed, f"the installed echod to answer {readme.printed}")
    if tests:
        test(readme, stock, tests, served_by)


def test(readme: Readme, stock: Stock, tests: Sequence[str], served_by: str) -> None:
    """Install what tests need, check who serves messages, and run the `tests`."""
    stock.run("make .venv/.test && .venv/bin/python --version", has_network=True)
    printed = stock.serve(readme.run, ".venv/bin/python -m tests.stock.lanes")
    for kind in ("plain", "deflated"):
        _expect(f"{kind}: {served_by}\n" in printed, f"{kind} messages to be served by {served_by}")
    for command in tests:
        stock.run(command)


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        sys.exit(f"expected {what}")


def main() -> None:
    """Build the root folder, run the README's lines in it twice, and remove it."""
    parser = argparse.ArgumentParser(prog="python -m tests.stock")
    parser.add_argument("release", help="name of the Debian release: bookworm, trixie or forky")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="run all of make test without a compiler, and with one those tests that this makes differ "
        "[run only the tests in process, with a compiler]",
    )
    parser.add_argument(
        "--also",
        metavar="3.X",
        action="append",
        default=[],
        help="run the tests in process with another Python of the release, too",
    )
    arguments = parser.parse_args()
    if why := nspawn.missing():
        sys.exit(why)
    readme = Readme()
    compiled = f"{readme.test} TESTS='{COMPILED}'"
    without, tests = ([readme.test], [compiled]) if arguments.whole else ([], [IN_PROCESS.format("")])
    bare = nspawn.base(arguments.release, ())
    with tempfile.TemporaryDirectory(dir=nspawn.FOLDER) as folder, nspawn.copy(bare, Path(folder)) as root:
        stock = Stock(root, arguments.release)
        stock.run(f"cat /etc/os-release && apt-get -qq update && {readme.tools}", has_network=True)
        follow(readme, stock, without, has_compiler=False)
        stock.run(f"{readme.compiler} && make clean", has_network=True)
        follow(readme, stock, tests, has_compiler=True)
        for version in arguments.also:
            install = f"apt-get install python{version}-venv python{version}-dev"
            stock.run(f"{install} && make clean && make PYTHON=python{version} .venv/bin/python", has_network=True)
            test(readme, stock, [IN_PROCESS.format(NO_C)], "pump")
    print(f"{arguments.release}: README's lines work without a compiler and with one, and then all lanes are on")


if __name__ == "__main__":
    main()

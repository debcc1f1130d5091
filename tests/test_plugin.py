"""What Twisted loads, and SIGTERM while it loads: as process 1, as in a container, and where SIGTERM was blocked."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from echod import options, plugin
from tests.daemon import COMMANDS, WORDS, Program, run
from tests.tools import give_up, needed

PROGRAMS: tuple[Program, ...] = ("twistd", "echod")

STARTED = "max-connections-per-address"
"""Part of the last line of a start."""

SIGNAL_WITHIN_THE_START = """
import os, signal, sys

class Finder:
    def find_spec(self, name, *_):
        if name == "autobahn":
            os.kill(os.getpid(), signal.SIGTERM)

sys.meta_path.insert(0, Finder())
"""


def test_the_plugin_has_what_twistd_looks_for() -> None:
    assert (plugin.Options, plugin.makeService) == (options.Options, options.makeService)


def command(program: Program) -> tuple[str, ...]:
    return (*COMMANDS[program], WORDS[program], "--port", "tcp:0:interface=127.0.0.1")


def as_process_1(*command: str) -> list[str]:
    """Return a command line that runs a command as the first process of a namespace, or skip the test if it can't."""
    in_namespace = [needed("unshare", "util-linux"), *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
    in_namespace += ["--pid", "--fork", "--kill-child"]
    if run(*in_namespace, "true").returncode:
        give_up("no PID namespace: run the tests as root, or allow user namespaces (kernel.unprivileged_userns_clone)")
    return [*in_namespace, *command]


@pytest.mark.parametrize("program", PROGRAMS)
def test_sigterm_ends_process_1_while_it_loads(program: Program, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SIGNAL_WITHIN_THE_START)
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    ended = run(*as_process_1(*command(program)), cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert (ended.returncode, ended.stderr) == (0, "")
    assert STARTED not in ended.stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_process_1_of_the_image_gets_a_sigterm_from_before_it_loaded(program: Program, tmp_path: Path) -> None:
    signalled = (
        sys.executable,
        "-c",
        "import os, sys; os.kill(os.getpid(), 15); os.execv(sys.argv[1], sys.argv[1:])",
        *command(program),
    )
    ended = run(*as_process_1("env", "--block-signal=TERM", *signalled), cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert STARTED not in ended.stdout

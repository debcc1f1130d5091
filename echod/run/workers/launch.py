"""The start of a worker process: the daemon's own command line once more, under `twist`.

Knows command lines, environments and descriptors. Must never know when a process is started.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.application.reactors import getReactorTypes

from echod.run.workers import link
from echod.run.workers.child import Process
from echod.run.workers.role import VARIABLE, Role


def make_command(reactor: Any, arguments: Sequence[str]) -> list[str]:
    """Return the command line of a worker, with a reactor of the same kind; `arguments` are echod's own."""
    kinds: Any = getReactorTypes()
    name = next((kind.shortName for kind in kinds if kind.moduleName == type(reactor).__module__), "default")
    # -P makes Python take the installed twist, and not a file of that name in the current directory. The environment
    # has whatever else the parent can import.
    return [sys.executable, "-P", "-m", "twisted", f"--reactor={name}", "echod", *arguments]


def make_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker, in which Python finds modules where the parent does."""
    return {**environment, "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}


def launch(
    reactor: Any,
    process: Process,
    command: Sequence[str],
    environment: Mapping[str, str],
    role: Role,
    passed: Mapping[int, int],
) -> None:
    """Start `process` in a role, with the sockets `passed`, by the descriptors there; raises `OSError`."""
    with open(os.devnull, "r+b", buffering=0) as null:
        # A standard stream that was closed at the start is another file by now, such as the reactor's.
        standard = {
            number: number if stream else null.fileno() for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__))
        }
        childFDs = {0: null.fileno(), **standard, link.TO_PARENT: "r", link.FROM_PARENT: "w", **passed}
        variables = {**environment, VARIABLE: role.encode()}
        reactor.spawnProcess(process, command[0], command, variables, childFDs=childFDs)

"""The start of a worker process: the daemon's own command line once more, under the program that serves there.

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


def make_command(program: Sequence[str], arguments: Sequence[str]) -> list[str]:
    """Return the command line of a worker. `program` is the module to run and its words before echod's own options,
    `arguments`."""
    # -P makes Python take the installed module, and not a file of that name in the current directory. The environment
    # has whatever else the parent can import.
    return [sys.executable, "-P", "-m", *program, *arguments]


def twist(reactor: Any) -> list[str]:
    """Return the program of a worker whose parent runs under twistd or twist, with a reactor of the same kind."""
    kinds: Any = getReactorTypes()
    name = next((kind.shortName for kind in kinds if kind.moduleName == type(reactor).__module__), "default")
    return ["twisted", f"--reactor={name}", "echod"]


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

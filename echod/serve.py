"""`echod serve`: the daemon in the foreground, without twistd.

This file makes the plugin's service and runs the reactor itself. Under twistd's code the command would also look for
all plugins of Twisted, keep a list of them beside them on the disk, log about itself, and leave mistakes before the
word `echod` to a parser that reports them in several lines. What is left of a foreground start is the few lines of
`main`.

Knows how the daemon begins and ends as a program. Must never know what the options mean or what the service does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.application.reactors import getReactorTypes, installReactor
from twisted.logger import globalLogBeginner
from twisted.python import usage

from echod.core.log import Limiter, make_observer, stderr_line
from echod.options import HANDLED, Options, makeService
from echod.run.process import CannotStartError

PROGRAM = ("echod", "serve")
"""The program of a worker: this one, with the same options."""


class ServeOptions(Options):
    """What `echod serve --help` shows: the plugin's options, and the one of twistd that matters in the foreground."""

    synopsis = "Usage: echod serve [options]"
    command = "echod serve"
    handled: Mapping[str, str] = {
        **HANDLED,
        "reactor": "NAME of the event loop of Twisted to use, such as epoll, poll, select or asyncio [default]",
    }

    def opt_reactor(self, name: str) -> None:
        """Use this reactor. Only one can be installed, before anything imports it."""
        kinds: Any = getReactorTypes()
        names = sorted(kind.shortName for kind in kinds)
        if name not in names:
            raise usage.UsageError(f"--reactor {name!r} is none of {', '.join(names)}")
        try:
            installReactor(name)
        except Exception as error:  # a reactor's module may need any other package, or another platform
            raise usage.UsageError(f"--reactor {name!r} can't be used: {' '.join(str(error).split())}") from error

    opt_r = opt_reactor

    def program_of_workers(self) -> Sequence[str]:
        """Return the program that runs a worker. Its options include the reactor."""
        return PROGRAM

    def _take_log(self) -> Limiter:
        return make_observer(sys.stderr if self.has_output_taken else sys.stdout, self.settings.log_format)


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal ends it, and return the exit status. A wrong option ends the process with status 1."""
    options = ServeOptions()
    options.parseOptions(arguments)
    service: Any = makeService(options)
    # As twistd does: from here on, whatever is printed becomes a line of the log.
    assert options.observer is not None
    globalLogBeginner.beginLoggingTo([options.observer])
    try:
        service.privilegedStartService()
        service.startService()
    except CannotStartError as error:
        stderr_line(f"echod: {error}")
        return 1
    options.reactor.addSystemEventTrigger("before", "shutdown", service.stopService)
    options.reactor.run()
    return 0

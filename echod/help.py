"""The help of the options: in groups, with examples, as wide as the terminal. Their completion is made of it, too.

Knows which option belongs to which group, and lets argparse write what it knows. Must never know what an option does.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable, Mapping

GROUPS: dict[str, tuple[str, ...]] = {
    "where to listen": ("port", "admin", "admin-host", "authority-file"),
    "who may connect, and what clients get": (
        *("origin", "trust-proxy", "compression", "http2", "fault", "fault-cap", "no-faults", "no-console"),
    ),
    "limits": (
        *("max-message-size", "max-buffered", "max-connections", "max-connections-per-address", "max-request-head"),
        *("max-streams", "http2-limit"),
    ),
    "time limits": (
        *("handshake-timeout", "ping-interval", "ping-timeout", "close-timeout", "max-close-time", "drain-timeout"),
        "http2-idle",
    ),
    "log": ("log-format", "log-messages", "log-frames", "log-frames-rate"),
    "process": ("workers", "reactor", "ready-file", "validate", "version", "help"),
}
"""The options of each group, in the order of the help."""

VALUES = re.compile(r"\b(?:ENDPOINT|NAME|PATTERN|PATH|SIZE|NUMBER|DURATION|MODE|FORMAT|LIMIT|QUERY|CAP)\b")
"""The word in an option's help that stands for the option's value."""

NOTES = """\
An ENDPOINT is one of Twisted's: tcp:8080, tcp:8080:interface=127.0.0.1,
unix:/run/echod.sock, ssl:8443:privateKey=key.pem:certKey=cert.pem, or
throwaway:8443 for wss:// in a test. A SIZE is a number of bytes, or of KiB, MiB
or GiB, such as 64KiB. A DURATION takes ms, s or m, such as 250ms.

examples:
  {command}
      serves ws:// on port 8080, and a page to try it at http://localhost:8080
  {command} --port tcp:8080 --port throwaway:8443
      serves wss://, too; clients trust http://localhost:8080/authority.pem
  {command} --port tcp:0 --ready-file ready.json
      serves on a free port, which the file tells as soon as clients can connect
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def _split_lines(self, text: str, width: int) -> list[str]:
        # argparse breaks names such as `max-bomb` in two.
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False)


def make_parser(
    command: str, docs: Mapping[str, str], flags: Iterable[str], short: Mapping[str, str]
) -> tuple[argparse.ArgumentParser, dict[str, argparse.Action]]:
    """Return a parser that describes the options in `docs`, each with its help, and what it has for each option.

    `command` is what a user types before the options, `flags` are the options without a value, and `short` has the
    letter of each option that has one.
    """
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        add_help=False,
        description="A WebSocket echo daemon: it sends every message back as it came.",
        epilog=NOTES.format(command=command),
        formatter_class=_Formatter,
    )
    actions = {}
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in filter(docs.__contains__, names):
            words = [*([f"-{short[name]}"] if name in short else []), f"--{name}"]
            text = docs[name].rstrip(".").replace("%", "%%")
            if name in flags:
                help_ = text[0].lower() + text[1:]
                actions[name] = group.add_argument(*words, action="store_true", help=help_)
            else:
                value = VALUES.search(text)
                assert value is not None, name
                help_ = text[: value.start()] + value[0].lower() + text[value.end() :]
                actions[name] = group.add_argument(*words, metavar=value[0], help=help_)
    return parser, actions

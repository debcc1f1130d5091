"""`echod completion SHELL`: what a shell has to load to complete the command `echod`. shtab writes it.

Knows the commands and what kinds of values their options take. Must never know how a shell completes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TextIO

import shtab

from echod.check import command
from echod.core.log import LogFormat
from echod.serve import ServeOptions
from echod.settings import Compression, Http2Mode

SHELLS = ("bash", "zsh", "fish")
"""The shells in which a test has typed a line. shtab knows others, too."""

CHOICES = {
    "compression": [*map(str, Compression)],
    "http2": [*map(str, Http2Mode)],
    "log-format": [*map(str, LogFormat)],
}
"""The values of the options that take one of a few words."""

FILES = ("authority-file", "ready-file")
"""The options that take the path of a file."""

_INSTALL = """\
to load it in this shell only:
  bash        eval "$(echod completion bash)"
  zsh         eval "$(echod completion zsh)", after compinit
  fish        echod completion fish | source

to install it:
  bash        echod completion bash >~/.local/share/bash-completion/completions/echod
  zsh         echod completion zsh >FOLDER/_echod, with a FOLDER of $fpath
  fish        echod completion fish >~/.config/fish/completions/echod.fish
"""


def main(arguments: Sequence[str], out: TextIO) -> int:
    """Write the completion for a shell, and return exit status 0. Raises `SystemExit` for a wrong command line."""
    out.write(shtab.complete(_of_all(), _make_parser().parse_args(arguments).shell))
    return 0


def _make_parser() -> command.Parser:
    parser = command.Parser(
        prog="echod completion",
        description="Write what a shell has to load to complete commands, options and values of echod.",
        epilog=_INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))
    return parser


def _of_all() -> argparse.ArgumentParser:
    """Return a parser of the whole command, which is only described."""
    serve, options = ServeOptions().described()
    for name, values in CHOICES.items():
        options[name].choices = values
    for name in FILES:
        setattr(options[name], "complete", shtab.FILE)  # noqa: B010  # argparse does not know this attribute
    parser = argparse.ArgumentParser(prog="echod")
    parser.add_argument("--version", action="store_true", help="show the version")
    commands = parser.add_subparsers()
    for name, help_, of_one in (
        ("serve", "serve in the foreground", serve),
        ("check", "check a WebSocket echo server", command.make_parser()),
        ("completion", "write the completion of a shell", _make_parser()),
    ):
        commands.add_parser(name, help=help_, parents=[of_one], add_help=False)
    return parser

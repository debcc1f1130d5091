"""`echod completion`: what it writes, and what each shell makes of it when somebody types a line and presses Tab."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest

from echod.completion import CHOICES, FILES, SHELLS, main
from echod.serve import ServeOptions
from tests.daemon import START_DEADLINE
from tests.tools import needed

COMMANDS = {
    "bash": ("--noprofile", "--norc", "-i"),
    "zsh": ("-f", "-i"),
    "fish": ("--no-config", "-i"),
}
"""How each shell starts without the user's own settings."""

STARTS = {
    "bash": 'echod() { printf \'got <%s>\\n\' "$*"; }; eval "$(cat {script})"',
    "zsh": 'autoload -U compinit; compinit -u -D; echod() { printf \'got <%s>\\n\' "$*"; }; eval "$(cat {script})"',
    "fish": "function echod; printf 'got <%s>\\n' \"$argv\"; end; source {script}",
}
"""In each shell: a command `echod` that only shows its arguments, and its completion."""

LINES = {
    "ser\t--valid\t": "serve --validate",
    "serve --author\tmine\t --compression de\t": "serve --authority-file mine.pem --compression deflate",
    "check ws://localhost --ins\t": "check ws://localhost --insecure",
    "comp\tfi\t": "completion fish",
}
"""What is typed after `echod `, and what the command then gets."""


@pytest.mark.parametrize("shell", SHELLS)
def test_it_is_written_to_standard_output(shell: str) -> None:
    out = io.StringIO()
    assert main([shell], out) == 0
    for word in ("authority-file", "insecure", "mirror", "journal"):
        assert word in out.getvalue()


def test_it_knows_each_value_that_is_a_file_or_one_of_a_few_words() -> None:
    _, options = ServeOptions().described()
    assert {name for name, option in options.items() if option.metavar == "PATH"} == set(FILES)
    assert {name for name, option in options.items() if option.metavar in ("MODE", "FORMAT")} == set(CHOICES)


@pytest.mark.parametrize("arguments", [[], ["csh"], ["bash", "zsh"]])
def test_a_mistake_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, io.StringIO())
    assert ended.value.code == os.EX_USAGE
    told = capsys.readouterr().err
    assert told.startswith("echod completion: ")
    assert told.count("\n") == 1


class Terminal:
    """A terminal in which a shell runs, in `folder`."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._descriptor, of_shell = pty.openpty()
        variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"}
        # setsid makes it the terminal that the shell is controlled by. pty.fork would warn of threads.
        command = [needed("setsid", "util-linux"), "--ctty", *command]
        self._shell = subprocess.Popen(
            command, cwd=folder, env=variables, stdin=of_shell, stdout=of_shell, stderr=of_shell
        )
        os.close(of_shell)
        self._shown = ""

    def type(self, text: str) -> None:
        """Press some keys."""
        os.write(self._descriptor, text.encode())

    def wait_for(self, pattern: str) -> None:
        """Wait until what was shown since the last call matches."""
        deadline = time.monotonic() + START_DEADLINE
        while (found := re.search(pattern, self._shown)) is None:
            ready, _, _ = select.select([self._descriptor], [], [], max(0, deadline - time.monotonic()))
            assert ready, f"waited for {pattern!r} and saw {self._shown!r}"
            self._shown += os.read(self._descriptor, 4096).decode(errors="replace")
        self._shown = self._shown[found.end() :]

    def close(self) -> None:
        """Hang up, and wait for the end of the shell."""
        os.close(self._descriptor)
        self._shell.wait(START_DEADLINE)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_completes_what_is_typed(shell: str, tmp_path: Path) -> None:
    out = io.StringIO()
    main([shell], out)
    (tmp_path / "script").write_text(out.getvalue())
    (tmp_path / "mine.pem").touch()
    terminal = Terminal([needed(shell), *COMMANDS[shell]], tmp_path)
    try:
        terminal.type(STARTS[shell].replace("{script}", "./script") + "; echod 'is' ready\n")
        terminal.wait_for("got <is ready>")
        for typed, gets in LINES.items():
            terminal.type(f"echod {typed}\n")
            terminal.wait_for(re.escape(f"got <{gets}>"))
    finally:
        terminal.close()

"""The README's lines that install echod and try it.

Knows the form of the sections "Install" and "Test a client". Must never know what its lines do.
"""

from __future__ import annotations

import re
from pathlib import Path

_README = Path(__file__).parents[2] / "README.md"


class Readme:
    """The parts of these sections. Raises ValueError if a section has another form."""

    def __init__(self) -> None:
        install, test = (_section(title) for title in ("Install", "Test a client"))
        self.tools, self.compiler = re.findall(r"`(apt-get install [a-z][^`]+)`", " ".join(install.split()))
        self.run, self.test = _commands(install)
        (pip,) = re.findall(r"^\| pip \| `(.*)` \|$", install, re.MULTILINE)
        self.install = pip.split("`, `")
        self.tools_of_python = {
            name: re.findall("`(.*?)`", line)
            for name, line in re.findall(r"^\| (uv|pipx) \| (.*)$", install, re.MULTILINE)
        }
        (self.program,) = re.findall(r"^```python\n(.*?)^```$", test, re.MULTILINE | re.DOTALL)
        self.path, self.serve, self.to_try, *self.others = _commands(test)
        (folder,) = re.findall(r"`(\$HOME/[^`]+)`", test)
        self.path_of_pip = self.path.replace("$PWD/.venv/bin", folder)
        (self.printed,) = re.findall(r"^It prints `(.*?)`", test, re.MULTILINE)


def _section(title: str) -> str:
    return _README.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def _commands(text: str) -> list[str]:
    """Return the indented lines without their comments. Those of a program are between fences."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: list[str] = re.findall(r"^ {4}(\S.*?)(?: +#.*)?$", text, re.MULTILINE)
    return found

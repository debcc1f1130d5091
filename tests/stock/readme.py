"""The lines of the README's section "Five minutes".

Knows the form of that section. Must never know what its lines do.
"""

from __future__ import annotations

import re
from pathlib import Path

_README = Path(__file__).parents[2] / "README.md"


class Readme:
    """The parts of the section. Raises ValueError if the section has another form."""

    def __init__(self) -> None:
        section = _README.read_text().partition("\n## Five minutes\n")[2].partition("\n## ")[0]
        text, self.to_try, rest = re.split(r"^```(?:sh)?\n", section, flags=re.MULTILINE)
        self.tools, self.compiler = re.findall(r"`(apt-get install [^`]+)`", text)
        self.run, self.test = _commands(text)
        (self.printed,) = re.findall(r"^It prints `(.*?)`", rest, re.MULTILINE)
        *self.install, self.serve = _commands(rest)


def _commands(text: str) -> list[str]:
    """Return the indented lines without their comments."""
    found: list[str] = re.findall(r"^ {4}(\S.*?)(?: +#.*)?$", text, re.MULTILINE)
    return found

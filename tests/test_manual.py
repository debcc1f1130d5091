"""The manual page docs/echod.8 and the texts of the Debian package stay true: each option with its default, and the
version.

Knows the syntax of the page. The linters man and mandoc check its form.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from echod import __version__
from echod.core.quantities import format_size
from echod.serve import ServeOptions
from echod.settings import Settings
from tests.daemon import run
from tests.test_readme import default
from tests.tools import needed

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "echod.8"

LINTERS = (
    ("mandoc", "mandoc", "-Tlint", "-Wstyle"),
    ("man", "man-db", "--warnings", "--encoding=utf8", "--local-file"),
)


def options() -> dict[str, str]:
    """Return the default of each option that has one, as the page gives it."""
    _, _, rest = PAGE.read_text().partition("\n.SH OPTIONS\n")
    found = {}
    for paragraph in rest.partition("\n.SH ")[0].split("\n.TP\n")[1:]:
        head, _, text = paragraph.replace("\\-", "-").partition("\n")
        name = re.search(r"--([a-z0-9-]+)", head)
        assert name is not None
        value = re.search(r"^Default: (.*)$", text, re.MULTILINE)
        found[name[1]] = value[1] if value else ""
    return found


def test_the_page_has_every_option_with_its_default() -> None:
    names = {name.rstrip("=") for name in ServeOptions().longOpt}
    assert options() == {name: default(name).replace("`", "") for name in names}


def test_the_page_has_the_limit_of_a_head_over_http2() -> None:
    assert f"a head longer than {format_size(Settings().max_header_list)} ends the connection" in PAGE.read_text()


def test_all_versions_are_the_same() -> None:
    heading = re.search(r"^\.TH ECHOD 8 \d{4}-\d\d-\d\d \"echod ([^\"]+)\"", PAGE.read_text(), re.MULTILINE)
    package = re.match(r"echod \(([^)]+)\)", (ROOT / "debian" / "changelog").read_text())
    assert heading is not None
    assert package is not None
    assert heading[1] == package[1] == __version__


@pytest.mark.parametrize(
    ("program", "package", "options"), [(name, package, options) for name, package, *options in LINTERS]
)
def test_the_page_is_well_formed(program: str, package: str, options: list[str]) -> None:
    done = run(needed(program, package), *options, str(PAGE), env={**os.environ, "LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    assert program == "man" or done.stdout == ""

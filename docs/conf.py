"""How Sphinx makes a site of these pages: `make docs`.

Knows Sphinx, MyST and the table of pages in index.md. The pages themselves stay plain Markdown, as GitHub shows it.
"""

from __future__ import annotations

import re

from sphinx.application import Sphinx

project = "echod"
html_title = "echod"
html_theme = "furo"
extensions = ["myst_parser"]
exclude_patterns = ["echod.8"]

# Headings get the names that GitHub gives them. A link to any other name is a warning, and warnings are errors.
myst_heading_anchors = 4


def add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    """Give the index the list of pages that Sphinx needs, from the links of its table and in their order."""
    if page == "index":
        pages = "\n".join(re.findall(r"^\| \[[^]]+\]\(([a-z0-9]+)\.md\)", source[0], re.MULTILINE))
        source[0] += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", add_contents)

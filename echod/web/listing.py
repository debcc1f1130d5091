"""The list of live connections, one page at a time.

Knows what is in a request for a page, and how the page is written. Must never read all connections for one page.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred

from echod.web.answers import JSON, Answer, text
from echod.web.sources import Source

PER_PAGE = 100


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list."""

    number: int = 1
    size: int = PER_PAGE

    @classmethod
    def parse(cls, arguments: Mapping[bytes, list[bytes]], largest: int) -> Page:
        """Read `page` and `per-page`. A size above `largest` becomes `largest`. Raises `ValueError`, whose text names
        the parameter."""
        return cls(_parse(arguments, "page", 1), min(_parse(arguments, "per-page", PER_PAGE), largest))


def _parse(arguments: Mapping[bytes, list[bytes]], name: str, default: int) -> int:
    values = arguments.get(name.encode(), [b"%d" % default])
    if len(values) != 1 or not re.fullmatch(rb"[1-9][0-9]{0,8}", values[0]):
        raise ValueError(f"{name} must be a whole number of at least 1, given once.")
    return int(values[0])


def render(source: Source, arguments: Mapping[bytes, list[bytes]]) -> Answer | Deferred[Answer]:
    """Answer a request for a page, whose URL has these parameters."""
    try:
        page = Page.parse(arguments, source.settings.max_page)
    except ValueError as error:
        return text(HTTPStatus.BAD_REQUEST, str(error))
    return source.connections((page.number - 1) * page.size, page.size).addCallback(lambda found: _answer(page, *found))


def _answer(page: Page, total: int, listed: Sequence[dict[str, Any]]) -> Answer:
    about = {"total": total, "page": page.number, "per-page": page.size, "pages": max(1, -(-total // page.size))}
    # One line for each connection is as readable as indented JSON, and Python writes it five times as fast.
    lines = ",\n".join(json.dumps(connection) for connection in listed)
    return Answer(HTTPStatus.OK, JSON, f'{json.dumps(about)[:-1]}, "connections": [\n{lines}\n]}}\n'.encode())

"""The page of one traced connection: what is told of it, and its last frames.

Knows how the page is written. Must never know how frames are kept.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from twisted.internet.defer import Deferred

from echod.web.answers import JSON, Answer, text
from echod.web.sources import Source

UNKNOWN = text(
    HTTPStatus.NOT_FOUND,
    "No live connection of this number is traced; see /connections. With --log-frames every connection is traced.",
)


def render(source: Source, number: str) -> Deferred[Answer]:
    """Answer a request for the page of the connection `number`."""
    return source.traced(number).addCallback(_answer)


def _answer(told: dict[str, Any] | None) -> Answer:
    if told is None:
        return UNKNOWN
    frames = ",\n".join(json.dumps(frame) for frame in told.pop("frames"))
    return Answer(HTTPStatus.OK, JSON, f'{json.dumps(told)[:-1]}, "frames": [\n{frames}\n]}}\n'.encode())

"""Queries of any parameters that are right by themselves, and mostly together."""

from __future__ import annotations

from random import Random
from typing import Any
from urllib.parse import quote, urlencode

from echod.faults.bad import BAD
from echod.faults.heads import HEADS

_DURATIONS = ("0", "1ms", "100ms", "250ms", "1s", "1m")

_INTERVALS = _DURATIONS[2:]

VALID: dict[str, tuple[Any, ...]] = {
    "accept": ("wrong", "missing", "twice"),
    "without": ("upgrade", "connection"),
    "upgrade": ("wrong",),
    "connection": ("wrong",),
    "subprotocol": ("", "a", "grün"),
    "extension": ("a", "b; c"),
    "header": ("X-A:b",),
    "location": ("/",),
    "body": ("", "tea"),
    "status": (302, 404, 503),
    "handshake-delay": _DURATIONS,
    "auth": ("basic:a:b", "bearer:c"),
    "fail": (1, 2),
    "key": ("a", "b"),
    "head": tuple(HEADS),
    "drop": (0, 0.5, 1),
    "seed": (1, 2),
    "mutate": (1, 2),
    "fragment": (1, 5),
    "delay": _DURATIONS,
    "compression": ("mirror", "deflate", "off"),
    "greeting": ("", "tea"),
    "greeting-delay": _DURATIONS,
    "ping": _INTERVALS,
    "pong-every": _INTERVALS,
    "every": _INTERVALS,
    "count": (1, 3),
    "burst": (1, 50),
    "size": ("1", "10", "64KiB"),
    "pong": (*_DURATIONS, "no"),
    "close-reply": (*_DURATIONS, "no"),
    "slice": (1, 7, 100),
    "rate": ("1", "100", "1KiB", "1MiB"),
    "cut": (0, 1, 5, 200),
    "read-rate": ("1", "100", "1MiB"),
    "raw": ("ff", "8a00"),
    "bad": tuple(BAD),
    "bomb": ("1", "1MiB"),
    "close": (1000, 1005, 1006, 4999),
    "reason": ("bye",),
    "abort": ("",),
    "goaway": ("",),
    "stall": ("",),
    "after": (0, 1, 2),
}
"""Right values of each parameter."""

NEEDED: dict[str, tuple[str, Any]] = {
    "location": ("status", 302),
    "body": ("status", 404),
    "fail": ("key", "a"),
    "key": ("fail", 1),
    "seed": ("drop", 0.5),
    "greeting-delay": ("greeting", "a"),
    "count": ("every", "1s"),
    "size": ("burst", 3),
    "reason": ("close", 1000),
    "after": ("close", 1000),
}
"""What is asked for, too, so that a parameter has an effect."""


def write(asked: dict[str, Any]) -> str:
    """Return the query that asks for these parameters, and for what they need."""
    return urlencode(dict(NEEDED[name] for name in asked if name in NEEDED) | asked, quote_via=quote)


def draw(random: Random) -> str:
    """Return a query of some parameters. Most of them open a connection."""
    asked = {name: random.choice(VALID[name]) for name in random.sample(list(VALID), random.randint(1, 7))}
    if random.random() < 0.7:
        for name in ("status", "auth", "location", "body"):
            asked.pop(name, None)
    return write(asked)

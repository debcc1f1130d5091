"""Reads what a URL asks for: `?delay=250ms&drop=0.1&seed=7` becomes a frozen value, or one line that says why not.

The query is read as browsers read it (the URL standard's `application/x-www-form-urlencoded`, that is
`URLSearchParams`): `&` separates parameters, `+` is a space, `%C3%BC` is ü, and a `%` before anything else is itself.
Unknown names are ignored, because proxies and clients have parameters of their own (`?token=…`). echod's own parameters
are read strictly: each has a cap in `Settings`, and combinations that make no sense (a `reason` without a `close`) are
refused.

Pure. Knows how a query is written, and takes names, values and caps from `table`. Must never know a connection. An
error never quotes what the client sent, except the fixed name of a parameter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import unquote_plus

from echod.core.counts import NO_CLOSE_FRAME, NO_CODE
from echod.faults.bad import BAD
from echod.faults.heads import HEADS
from echod.faults.table import BY_ATTRIBUTE, PARAMETERS, Moment, Parameter
from echod.settings import Settings


class FaultError(ValueError):
    """A parameter that can't be read. The text names the parameter, and quotes nothing else of what the client sent."""


class Faults:
    """What a URL asks for: a value for each parameter, `unset` of its row if it is not asked for.

    `faults.handshake_delay` is the value of `handshake-delay`. The table has the type of each.
    """

    __slots__ = ("_asked",)

    def __init__(self, **values: Any) -> None:
        # In the order of the table, in which they act.
        self._asked = {
            name: values[name] for name, row in BY_ATTRIBUTE.items() if name in values and values[name] != row.unset
        }

    def __getattr__(self, name: str) -> Any:
        if name in self._asked:
            return self._asked[name]
        if name in BY_ATTRIBUTE:
            return BY_ATTRIBUTE[name].unset
        raise AttributeError(name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Faults) and self._asked == other._asked

    def __hash__(self) -> int:
        return hash(tuple(self._asked.items()))

    def __repr__(self) -> str:
        return f"Faults(**{self._asked!r})"

    @property
    def names(self) -> tuple[str, ...]:
        """The faults that are asked for, as they are spelt in a URL. A mode of compression is no fault."""
        return tuple(BY_ATTRIBUTE[name].name for name in self._asked if BY_ATTRIBUTE[name].is_fault)

    def at(self, moment: Moment) -> Iterator[tuple[str, Any]]:
        """Yield what acts at a moment: the name of the method, and the value."""
        for name, value in self._asked.items():
            row = BY_ATTRIBUTE[name]
            if row.moment is moment and row.acts:
                yield name, value

    def any_at(self, *moments: Moment) -> bool:
        """Tell whether anything acts at one of these moments."""
        return any(True for moment in moments for _ in self.at(moment))

    @property
    def needs_deflate(self) -> str | None:
        """The parameter that makes no sense without permessage-deflate; None if there is none."""
        if self.bomb is not None:
            return "bomb"
        return "bad" if self.bad is not None and BAD[self.bad].needs_deflate else None

    @property
    def forbids_deflate(self) -> bool:
        """Whether an offer of permessage-deflate is declined."""
        return self.extension is not None or (self.bad is not None and BAD[self.bad].forbids_deflate)


NONE = Faults()
"""The URL asks for nothing."""


def parse(query: str, settings: Settings) -> Faults:
    """Return what the query of a request target asks for, and of the operator's (`--fault`) what it does not name:
    nothing if the operator has turned that off. `query` has no `?`. Raises `FaultError`."""
    if not settings.has_faults:
        return NONE
    texts = _texts(query)
    if settings.fault:
        texts = _texts(settings.fault) | texts
    if not texts:
        return NONE
    faults = Faults(**{PARAMETERS[name].attribute: _read(PARAMETERS[name], texts[name], settings) for name in texts})
    _check(faults, texts.keys())
    return faults


def check_version(faults: Faults, version: str) -> None:
    """Raise `FaultError` if something is asked for that does not exist in this version of HTTP."""
    for name in faults.names:
        if PARAMETERS[name].version not in ("", version):
            raise FaultError(f"the parameter {name} has no effect over HTTP/{version}")
    if version == "2" and faults.head is not None and HEADS[faults.head].on_stream is None:
        names = " or ".join(name for name, head in HEADS.items() if head.on_stream is not None)
        raise FaultError(f"the parameter head is not {names}: HTTP/2 has no other")


def names_in(query: str) -> set[str]:
    """Return the names of the parameters in a query, whether echod knows them or not."""
    return {unquote_plus(pair.partition("=")[0]) for pair in query.split("&") if pair}


def _texts(query: str) -> dict[str, list[str]]:
    """Return the values of echod's own parameters, as they are written."""
    texts: dict[str, list[str]] = {}
    for pair in query.split("&") if query else ():
        name, _, text = pair.partition("=")
        name = unquote_plus(name)
        if name in texts and not PARAMETERS[name].most:
            raise FaultError(f"the parameter {name} is given twice")
        if name in PARAMETERS:
            texts.setdefault(name, []).append(text)
    return texts


def _read(row: Parameter, texts: list[str], settings: Settings) -> Any:
    try:
        values = [row.kind.read(unquote_plus(text, errors="strict"), settings) for text in texts]
    except UnicodeDecodeError:
        raise FaultError(f"the parameter {row.name} is not UTF-8") from None
    except ValueError as error:
        raise FaultError(f"the parameter {row.name} {error}") from None
    if not row.most:
        return values[0]
    most = getattr(settings, row.most)
    if len(values) > most:
        raise FaultError(f"the parameter {row.name} is given more than {most} times")
    return tuple(values)


def _check(faults: Faults, given: Collection[str]) -> None:
    """Refuse a combination that makes no sense."""
    for row in (PARAMETERS[name] for name in given):
        if row.needs and not any(other in given for other in row.needs):
            raise FaultError(f"the parameter {row.name} has no effect without {' or '.join(row.needs)}")
        for other in row.excludes:
            if other in given:
                raise FaultError(f"the parameter {row.name} cannot be combined with {other}")
    if faults.location is not None and not (faults.status and faults.status < 400):
        raise FaultError("the parameter location has no effect without a status of 300 to 399")
    if faults.needs_deflate and faults.forbids_deflate:
        raise FaultError(f"the parameter {faults.needs_deflate} needs permessage-deflate, which another one declines")
    if faults.reason and faults.close in (NO_CODE, NO_CLOSE_FRAME):
        raise FaultError("the parameter reason has no effect without a close code to send")
    if faults.close == NO_CLOSE_FRAME and (faults.abort or faults.stall):
        raise FaultError(f"the parameter close can't be {NO_CLOSE_FRAME} with abort or stall")

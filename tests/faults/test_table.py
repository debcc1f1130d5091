"""The table is whole: each row has its method, its documents and its example; and a row and a method make a fault."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
from twisted.internet.task import Clock

from echod.faults import kinds, query, table
from echod.faults.ending import Ending
from echod.faults.messages import Message, Messages
from echod.faults.opening import Opening
from echod.faults.own import Own
from echod.faults.table import CAPS, PARAMETERS, ROWS, Moment, Parameter
from echod.settings import Settings
from tests.fakes import Peer, make_factory
from tests.frames import TEXT, Frame, client_frame, handshake

STAGES: dict[Moment, type[object]] = {
    Moment.OPENING: Opening,
    Moment.MESSAGES: Messages,
    Moment.OWN: Own,
    Moment.FRAMES: Ending,
    Moment.END: Ending,
}
"""The classes that have a method for each parameter of their moment. The replies and the wire act on other events."""

CONTRIBUTING = Path(__file__).parent.parent.parent / "CONTRIBUTING.md"


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_whole(row: Parameter) -> None:
    assert row.does.endswith((".", "`."))
    assert row.client.endswith(".")
    assert row.rfc == "" or row.rfc.startswith("RFC ")
    assert set(row.needs) | set(row.excludes) <= PARAMETERS.keys()
    assert row.version in {"", "1.1", "2"}
    assert row.name in query.names_in(row.example)
    asked = query.parse(row.example, Settings())
    assert row.attribute in asked._asked
    if row.acts and row.moment in STAGES:
        assert callable(getattr(STAGES[row.moment], row.attribute))


def test_names_are_unique_and_caps_exist() -> None:
    assert len(PARAMETERS) == len(ROWS)
    assert all(hasattr(Settings(), cap) for cap in CAPS)


def test_a_row_and_a_method_make_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of CONTRIBUTING.md is run as it is written."""
    row_text, method_text = re.findall(r"^```python\n(.*?)^```", CONTRIBUTING.read_text(), re.MULTILINE | re.DOTALL)
    row: Parameter = eval(row_text, {"Parameter": Parameter, "kinds": kinds, "Moment": Moment})
    names: dict[str, Any] = {"Message": Message}
    exec("class Holder:\n" + indent(method_text, "    "), names)
    monkeypatch.setattr(Messages, "shout", names["Holder"].shout, raising=False)
    monkeypatch.setitem(table.PARAMETERS, "shout", row)
    monkeypatch.setitem(table.BY_ATTRIBUTE, "shout", row)
    peer = Peer(make_factory(Clock()))
    assert peer.send(handshake("/?shout")).startswith(b"HTTP/1.1 101 ")
    assert peer.frames(client_frame(TEXT, b"tea") + client_frame(2, b"tea")) == [Frame(TEXT, b"TEA"), Frame(2, b"tea")]
    assert peer.protocol.factory.counts.faults["shout"] == 1

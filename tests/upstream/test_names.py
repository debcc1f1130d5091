"""echod looks up every private name that upstream/ uses before it serves, and reports each one that is gone."""

from __future__ import annotations

import ast
import dis
import importlib.metadata
import io
from collections.abc import Generator
from importlib import import_module
from inspect import getmembers, isclass
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, NoReturn, Protocol, cast

import pytest
import pytest_twisted
from twisted.internet import reactor

from echod import upstream
from echod.lane.native import Native
from echod.options import Options
from echod.upstream import names, tls_sessions
from tests.run.test_service import make
from tests.test_layout import private
from tests.tls import Certificate

MODULES = [import_module(f"{upstream.__name__}.{module.name}") for module in iter_modules(upstream.__path__)]

# The name of cryptography's binding: `tls_sessions.openssl` checks by itself whether the binding has changed. And what
# Autobahn's client does after the opening handshake: a check over HTTP/2 and TLS would tell of an error.
FOUND_OUT = {"_openssl", "_onOpen"}


def used(module: ModuleType) -> set[str]:
    """Return the private names that a module uses and does not define."""
    nodes = list(ast.walk(ast.parse(Path(str(module.__file__)).read_text())))
    defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    defined |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self" and isinstance(node.ctx, ast.Store)
    }
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and private(node.attr)} - defined - own


def overridden(module: ModuleType) -> set[str]:
    """Return the private names that classes of a module share with their base classes."""
    kinds = [kind for _, kind in getmembers(module, isclass) if kind.__module__ == module.__name__]
    return {
        name
        for kind in kinds
        for name in vars(kind)
        if private(name) and any(hasattr(base, name) for base in kind.__bases__ if base is not Protocol)
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_each_that_is_used_is_listed(module: ModuleType) -> None:
    tables = (names.NEEDED, names.ADOPTING, names.TLS_LANE)
    owners = {owner.rpartition(":")[2] for table in tables for owner in table}
    listed = {name for table in tables for its in table.values() for name in its}
    assert used(module) | overridden(module) <= owners | listed | FOUND_OUT


def test_all_are_there() -> None:
    assert names.fault() is None
    assert names.losses() == []
    imported = {node for module in MODULES for node in ast.walk(ast.parse(Path(str(module.__file__)).read_text()))}
    taken = {alias.name for node in imported if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert not [name for name in taken if private(name)], "such an import would fail before anything can be told"


def test_another_pythons_instructions_take_longer_and_hide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python 3.15's `opmap` can't be changed in place.
    monkeypatch.setattr(dis, "opmap", {**dis.opmap, "STORE_ATTR": 0})
    assert names.fault() is None
    monkeypatch.setattr(names, "NEEDED", {"twisted.internet.tcp:Port": ("deferLater",)})
    assert "tcp.Port.deferLater" in str(names.fault()), "its methods use this name and set no attribute of that name"


@pytest.mark.parametrize(
    ("owner", "name", "told"),
    [
        (
            "autobahn.twisted.websocket:WebSocketServerProtocol",
            "_was_there",
            "autobahn {}: websocket.WebSocketServerProtocol._was_there",
        ),
        ("twisted.internet.endpoints", "_was_there", "Twisted {}: endpoints._was_there"),
        ("OpenSSL.SSL:Gone", "_context", "pyOpenSSL {}: SSL.Gone._context"),
        ("OpenSSL.gone", "_lib", "pyOpenSSL {}: gone._lib"),
    ],
)
def test_a_start_without_one_that_is_needed_is_one_line(
    owner: str, name: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.__stderr__", err)
    monkeypatch.setattr(names, "NEEDED", {**names.NEEDED, owner: (name,)})
    with pytest.raises(SystemExit) as ended:
        Options({}).parseOptions([])
    assert ended.value.code == 1
    library, _, rest = told.partition(" {}")
    wanted = [
        line
        for line in importlib.metadata.requires("echod") or ()
        if line.startswith(("autobahn", "pyopenssl", "twisted"))
    ]
    assert len(wanted) == 3
    assert err.getvalue() == (
        "echod: the installed libraries lack private names that echod needs: "
        f"{library} {importlib.metadata.version(library)}{rest}; install {', '.join(wanted)}\n"
    )


def test_without_metadata_the_libraries_alone_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> NoReturn:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", none)
    monkeypatch.setattr(names, "NEEDED", {"socket:socket": ("_was_there",)})
    assert str(names.fault()).endswith(
        " that echod needs: Python: socket.socket._was_there; install autobahn, twisted, pyopenssl"
    )


@pytest_twisted.inlineCallbacks
def test_without_one_of_a_faster_way_the_plain_one_is_taken_and_told(
    native: Native, certificate: Certificate, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Generator[Any, Any, None]:
    monkeypatch.setattr(names, "ADOPTING", {"socket:socket": ("accept", "_was_there")})
    monkeypatch.setattr(names, "TLS_LANE", {"OpenSSL.SSL:Connection": ("_was_there",)})
    tls_sessions.openssl.cache_clear()
    service = make(
        "tcp:0:interface=127.0.0.1", f"ssl:0:interface=127.0.0.1:privateKey={certificate.path}", native=native
    )
    service.startService()
    try:
        plain: Any = service._ports[0]
        assert service.factory is not None
        assert plain in cast(Any, reactor).getReaders()
    finally:
        yield service.stopService()
        tls_sessions.openssl.cache_clear()
    version = importlib.metadata.version("pyOpenSSL")
    at = lines.index(f"express lane: pump and codec ({native.isa}), TLS by the codec alone")
    assert lines[at + 1 : at + 3] == [
        "each connection begins in Python, because these names are gone: Python: socket.socket._was_there",
        "TLS is served without the pump, and its buffers never shrink, because these names are gone: "
        f"pyOpenSSL {version}: SSL.Connection._was_there",
    ]

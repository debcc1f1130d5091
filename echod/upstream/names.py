"""The private names of its libraries that echod uses. echod looks them up before it serves.

Knows the owner of each name, and what echod does if the name is gone. Must never know what a name is for: the module
that uses it says so.
"""

from __future__ import annotations

import dis
import importlib.metadata
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pkgutil import resolve_name
from types import CodeType, FunctionType
from typing import Any

Names = Mapping[str, Sequence[str]]
"""Names that no documentation promises, by their owner: `module:class` or `module`."""

NEEDED: Names = {
    "autobahn.twisted.websocket:WebSocketServerProtocol": (
        *("CONFIG_ATTRS", "data", "state", "failedByMe", "inside_message", "message_data_total_length"),
        *("current_frame", "current_frame_masker"),
        *("_WS_MAGIC", "_dataReceived", "_isMessageCompressed", "_perMessageCompress"),
        *(
            "_fail_connection",
            "_protocol_violation",
            "_invalid_payload",
            "_max_message_size_exceeded",
            "_closeConnection",
        ),
    ),
    "twisted.internet.base:ReactorBase": ("seconds", "_pendingTimedCalls", "_newTimedCalls"),
    "twisted.internet.base:DelayedCall": ("time", "seconds"),
    "twisted.internet.endpoints": ("_parse",),
    "twisted.internet.endpoints:_SystemdParser": ("_sddaemon",),
    "twisted.internet.endpoints:TCP4ServerEndpoint": ("_interface", "_port", "_reactor"),
    "twisted.internet.endpoints:TCP6ServerEndpoint": ("_port",),
    "twisted.internet.endpoints:UNIXServerEndpoint": ("_reactor",),
    "twisted.internet.tcp:Connection": ("dataBuffer", "offset", "_aborting", "_tempDataLen"),
    "twisted.internet.tcp:Port": ("_shouldShutdown",),
    "twisted.internet.unix:Port": ("_bindPath", "_fromListeningDescriptor", "_logConnectionLostMsg", "_shouldShutdown"),
    "twisted.protocols.tls:TLSMemoryBIOProtocol": (
        *("_handshakeDone", "_lostTLSConnection", "_appSendBuffer", "_tlsShutdownFinished"),
    ),
    "twisted.python.logfile:LogFile": ("_openFile", "_file"),
    "OpenSSL.SSL": ("_lib",),
    "OpenSSL.SSL:Context": ("_context",),
}
"""If one of these is gone, a limit or a close would not be as promised, so echod does not start."""

ADOPTING: Names = {"twisted.internet.tcp:Port": ("transport", "sessionno")}
"""If one of these is gone, each connection begins in Python."""

TLS_LANE: Names = {
    "twisted.protocols.tls:TLSMemoryBIOProtocol": ("_aborted", "_flushReceiveBIO"),
    "OpenSSL.SSL": ("_ffi",),
    "OpenSSL.SSL:Connection": ("_ssl", "_into_ssl", "_from_ssl"),
}
"""If one of these is gone, the pump serves no TLS, and the buffers of TLS sessions keep the size they have grown to."""

_DISTRIBUTIONS = {"autobahn": "autobahn", "twisted": "Twisted", "OpenSSL": "pyOpenSSL"}


def missing(names: Names) -> list[str]:
    """Return the names that are gone, each with its library and version: `Twisted 26.10.0: tcp.Port._buildAddr`."""
    return [_describe(owner, name) for owner, its in names.items() for name in its if not _is_there(owner, name)]


def fault() -> str | None:
    """Return one line if echod can't serve with the installed libraries, with the versions that would do; or None."""
    found = missing(NEEDED)
    if not found:
        return None
    return (
        f"the installed libraries lack private names that echod needs: {', '.join(found)}; install "
        f"{', '.join(_wanted())}"
    )


def losses() -> list[str]:
    """Return a line for each faster way that echod can't use, with the names that are missing for it."""
    ways = (
        (ADOPTING, "each connection begins in Python"),
        (TLS_LANE, "TLS is served without the pump, and its buffers never shrink"),
    )
    return [
        f"{what}, because these names are gone: {', '.join(gone)}" for names, what in ways if (gone := missing(names))
    ]


def _is_there(owner: str, name: str) -> bool:
    try:
        has: Any = resolve_name(owner)
    except (ImportError, AttributeError):
        return False
    return hasattr(has, name) or _is_set_by_a_method(has, name)


def _is_set_by_a_method(owner: Any, name: str) -> bool:
    """Tell whether a method of the class `owner` sets an attribute of this name on any object.

    `_stores` is quick, but a future Python may encode the instruction differently. So `dis`, which takes ten times as
    long, has the last word.
    """
    values = (value for kind in getattr(owner, "__mro__", ()) for value in vars(kind).values())
    codes = [value.__code__ for value in values if isinstance(value, FunctionType)]
    naming = [code for code in codes if name in code.co_names]
    return any(_stores(code, name) for code in naming) or any(
        step.opname == "STORE_ATTR" and step.argval == name for code in naming for step in dis.get_instructions(code)
    )


def _stores(code: CodeType, name: str) -> bool:
    """Search for the instruction itself: two bytes, STORE_ATTR and the lower byte of the name's index (see `dis`)."""
    instruction = bytes((dis.opmap["STORE_ATTR"], code.co_names.index(name) & 0xFF))
    return int.from_bytes(instruction, sys.byteorder) in memoryview(code.co_code).cast("H")


def _describe(owner: str, name: str) -> str:
    module, _, kind = owner.partition(":")
    library = _DISTRIBUTIONS.get(module.partition(".")[0])
    whose = f"{library} {importlib.metadata.version(library)}" if library else "Python"
    return f"{whose}: {'.'.join(filter(None, (module.rpartition('.')[2], kind, name)))}"


def _wanted() -> list[str]:
    """Return the versions that echod's own metadata require; without metadata, only the names of the libraries."""
    names = tuple(name.lower() for name in _DISTRIBUTIONS.values())
    with suppress(importlib.metadata.PackageNotFoundError):
        return [line for line in importlib.metadata.requires("echod") or () if line.lower().startswith(names)]
    return list(names)

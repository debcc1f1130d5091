"""Prints who serves a plain and a deflated connection to port 8080, as `/info` tells: `python -m tests.stock.lanes`,
while `make run` serves.

Runs in the Debian of the root folder. Must never know whether there is a compiler.
"""

from __future__ import annotations

import json

from websockets.sync.client import connect

MESSAGES = ("It works ☕", "It works ☕" * 100, bytes(range(256)) * 16)


def main() -> None:
    """Send messages, and print one line for each connection: the negotiated extension, and who serves the
    connection."""
    for compression in (None, "deflate"):
        with connect("ws://127.0.0.1:8080/info", compression=compression, proxy=None) as connection:
            told = json.loads(connection.recv(timeout=30))
            for message in MESSAGES:
                connection.send(message)
                assert connection.recv(timeout=30) == message
        assert (told["compression"]["mode"] == "off") == (compression is None)
        print(f"{'plain' if compression is None else 'deflated'}: {told['lane']}", flush=True)


if __name__ == "__main__":
    main()

"""Who serves a plain and a deflated connection to port 8080, by `/info`: `python -m tests.stock.lanes`, beside `make
run`.

Runs in the root folder's Debian. Must never know whether there is a compiler.
"""

from __future__ import annotations

import json

from websockets.sync.client import connect

MESSAGES = ("It works ☕", "It works ☕" * 100, bytes(range(256)) * 16)


def main() -> None:
    """Have messages echoed, and print one line for each connection: what was agreed on, and who serves it."""
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

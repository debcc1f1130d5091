"""The tests of echod.

- Folders named like a room of `echod/` (`lane/`, `websocket/`, ...): `tests/ROOM/test_X.py` tests `echod/ROOM/X.py`.
- `test_*.py` here: the layout, the documents, packaging, and the real daemon as its users start it (`test_running.py`,
  `test_workers_daemon.py`, `test_admin_daemon.py`, ...).
- `test_sameness.py`: with and without the lane, a client gets the same bytes.
- Suites with a counterpart of their own: `browser/` (Chromium, curl), `interop/` (clients that others wrote),
  `conformance/` (the Autobahn testsuite), `fuzz/`, `reliability/` (load), `system/` (systemd, proxies, packages), and
  `stock/` (the README's lines on a bare Debian).
- Helpers: `daemon.py` starts a real daemon, `loop.py` runs real sockets on a fake clock, `fakes.py` has a fake
  transport, `frames.py` makes and parses frames without echod, `client.py` is a blocking client, `odd_server.py` a bad
  server, `tls.py` makes certificates.
"""

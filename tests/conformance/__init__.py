"""The Autobahn testsuite against a daemon started as a user would start it: ``python -m tests.conformance``.

Knows the suite's cases and what each must come out as, and how to get the suite.
Must never know what is inside the daemon: nothing here imports ``echod``, ``twisted`` or ``autobahn``.
"""

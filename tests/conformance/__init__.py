"""Runs the Autobahn testsuite against a daemon that is started as a user starts it: ``python -m tests.conformance``.

Knows the cases of the suite, the required result of each, and how to get the suite.
Must never know the inside of the daemon: nothing here imports ``echod``, ``twisted`` or ``autobahn``.
"""

"""The daemon fed with what no client should send, cut where it hurts: `python -m tests.fuzz`."""

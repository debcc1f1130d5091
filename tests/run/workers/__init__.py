"""Tests of `echod/run/workers/`."""

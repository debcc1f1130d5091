"""Tests of `echod/run/`."""

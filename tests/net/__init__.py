"""Tests of `echod/net/`."""

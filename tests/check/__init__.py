"""Tests of `echod/check/`."""

"""Tests of `echod/lane/`."""

"""Tests of `echod/core/`."""

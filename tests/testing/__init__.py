"""Tests of `echod/testing/`."""

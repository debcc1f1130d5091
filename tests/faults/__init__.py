"""Tests of `echod/faults/`."""

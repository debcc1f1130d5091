"""Tests of `echod/http/`."""

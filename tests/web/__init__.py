"""Tests of `echod/web/`."""

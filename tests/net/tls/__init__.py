"""Tests of `echod/net/tls/`."""

"""Tests of `echod/websocket/`."""

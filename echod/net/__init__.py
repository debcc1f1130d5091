"""Endpoints, and what they put between a socket and a WebSocket connection: TLS and PROXY headers."""

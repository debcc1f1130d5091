"""`python -m echod check`: checks any WebSocket echo server."""

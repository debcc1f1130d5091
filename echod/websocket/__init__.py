"""One WebSocket connection, the factory that admits it, and what becomes of its messages."""

"""HTTP as the opening handshake needs it: the request head, and WebSocket URLs."""

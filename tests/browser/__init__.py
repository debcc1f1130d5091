"""The WebSocket port as a browser and curl see it: the console page and plain HTTP."""

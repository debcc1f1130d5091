"""echod, a WebSocket echo daemon on Twisted and Autobahn. Knows its version, and nothing else."""

__version__ = "0.1.0"

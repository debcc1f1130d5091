"""What endpoints add below a connection: certificates that are read again, and PROXY headers."""

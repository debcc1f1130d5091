"""What the daemon promises under load, against a daemon in its own process, read from outside."""

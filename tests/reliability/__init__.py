"""What the daemon promises under load, measured from outside on a daemon in its own process."""

"""Running the daemon: the service, systemd, the log, and worker processes."""

"""The daemon as a process: the service, its start report, signals, systemd, the log, and worker processes."""

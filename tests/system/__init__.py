"""echod in production surroundings: under a real systemd in its own system, behind real proxies, from its packages."""

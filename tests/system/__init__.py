"""echod where it is to run: under a real systemd in a system of its own, behind real proxies, from its packages."""

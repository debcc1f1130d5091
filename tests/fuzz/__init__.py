"""A fuzzer of the daemon's Python: any octets, cut anywhere, get the same answer, at once, and no exception."""

"""A fuzzer for the daemon's Python: any bytes, cut in any way, get the same answer in time, and cause no exception."""

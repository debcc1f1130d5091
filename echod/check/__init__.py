"""`python -m echod check`: the test of any echo server."""

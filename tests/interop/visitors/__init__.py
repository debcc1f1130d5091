"""Clients that visit a server with faults, each in a process of its own and with nothing but its library.

A file here drives one library, as its documentation says and without workarounds. `visit.py` has what all of them
share. `visit.mjs` does the same for the clients of Node. Must never know what is expected of a client.
"""

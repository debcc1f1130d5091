"""The only room that touches private names of Autobahn and Twisted, and those of their attributes that no documentation
promises.

Each is named in tests/upstream/, which fails when upstream changes it. Knows what is inside a connection of theirs;
must never know echod's rules: it offers what is missing from their public interfaces, and `protocol` decides.
"""

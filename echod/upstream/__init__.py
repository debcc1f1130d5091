"""The only room that uses private names of Autobahn, Twisted and pyOpenSSL, and attributes that are not documented.

tests/upstream/ names each of them, and fails when upstream changes one. The room offers what the public interfaces
lack. Knows what is inside a connection of Autobahn or Twisted. Must never know echod's rules: `websocket/` decides.
"""

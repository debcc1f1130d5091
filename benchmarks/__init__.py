"""Measures echod beside other WebSocket echo servers: ``python -m benchmarks``.

``load/`` is the load generator, and ``peers/`` has the other servers. From the bottom up: ``columns`` (what is
measured), ``build`` (compilers and registries), ``servers`` (which servers), ``process`` (a server while it is
measured), ``results`` (figures), ``measure`` (rounds), ``targets``, ``machine``, ``report`` and ``plot`` (what a reader
sees).
"""

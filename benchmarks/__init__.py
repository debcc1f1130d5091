"""Measures echod beside other WebSocket echo servers: ``python -m benchmarks``.

``load/`` is the load generator and ``peers/`` the servers it is pointed at. From the bottom up: ``columns`` (what is
measured), ``build`` (compilers and registries), ``servers`` (who is measured), ``process`` (a server under the clock),
``results`` (figures), ``measure`` (rounds), ``targets``, ``machine``, ``report`` and ``plot`` (what a reader sees).
"""

"""A legacy users API on SQLite: something real for the proxy to stand in front of.

Run it with ``python -m upstream_stub``, or put it into a test with ``upstream_stub.api.make_app(Options())``.
It knows nothing of the proxy and never imports from it.
"""

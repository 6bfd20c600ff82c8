"""Conformance to RFC 9111: a table of our own, and the public suite (`make conformance`)."""

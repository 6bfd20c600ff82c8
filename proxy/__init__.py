"""user-cache-proxy: a sidecar cache that stands in front of a users API and answers for it."""

__version__ = "0.1.0"

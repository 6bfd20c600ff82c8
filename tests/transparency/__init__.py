"""A service that others wrote, asked by clients that others wrote: directly, and through the proxy."""

"""Both edges on uvloop: the same tests as on asyncio's loop, whose transports and buffers are others."""

from __future__ import annotations

import asyncio
import inspect
from importlib import import_module

import uvloop

EDGES = (
    "test_forwarding",
    "test_interim",
    "test_memory_limit",
    "test_passages",
    "test_small_bodies",
    "test_trailers",
    "test_upgrade",
    "test_uploads",
)

for module in EDGES:
    for name, test in vars(import_module(f"tests.http.{module}")).items():
        # Those that put the clock forward do it with the clock of asyncio's own loop.
        if name.startswith("test_") and "forward(" not in inspect.getsource(test):
            globals()[name] = test


async def test_the_loop_is_another_one() -> None:
    """Or all of this would be said twice."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)

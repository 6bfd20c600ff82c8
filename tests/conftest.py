"""Fixtures that need a real server."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from tests.valkey import Valkey

# What a shell starts in the background ignores Ctrl-C, and so would the processes that tests end by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says that the machine is busy, and nothing of what is tested.
settings.register_profile("product", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("product")


@pytest.fixture(scope="module")
def _shared_valkey() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture
def valkey(_shared_valkey: Valkey) -> Valkey:
    """The module's server, empty."""
    _shared_valkey.flush()
    return _shared_valkey


@pytest.fixture
def valkey_server() -> Iterator[Callable[..., Valkey]]:
    """Starts servers of the test's own, to be killed and frozen; takes words of the command line."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(Valkey(*options))

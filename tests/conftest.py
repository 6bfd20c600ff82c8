"""Fixtures that need a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.valkey import Valkey


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

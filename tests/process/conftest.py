"""The sample service and a proxy in front of it, for tests that change neither."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.processes import Proxy, Stub


@pytest.fixture(name="stub", scope="module")
def _stub() -> Iterator[Stub]:
    with Stub.start() as stub:
        yield stub


@pytest.fixture(name="served", scope="module")
def _served(stub: Stub) -> Iterator[Proxy]:
    with Proxy.start(stub.url) as served:
        yield served

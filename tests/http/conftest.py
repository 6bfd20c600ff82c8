"""The proxy in front of a test module's own service, under its own routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.walk import Bench, bench


@pytest.fixture(name="s")
def _s(request: pytest.FixtureRequest) -> Any:
    return request.module.Service()


@pytest_asyncio.fixture(name="b")
async def _b(request: pytest.FixtureRequest, s: Any, tmp_path: Path) -> AsyncIterator[Bench]:
    async with bench(routes=request.module.ROUTES, tmp_path=tmp_path, upstream=s.app()) as started:
        yield started

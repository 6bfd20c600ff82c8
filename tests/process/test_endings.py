"""From when a deactivation, a deletion, a new password or a logout is answered on, no replica says 200."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.endings import ENDINGS, QUESTIONS, World, world


@pytest_asyncio.fixture(name="w", scope="module", loop_scope="module")
async def _w(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder: Path = tmp_path_factory.mktemp("endings")
    async with world(folder) as started:
        yield started


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.asyncio(loop_scope="module")
async def test_no_200_after_the_answer(w: World, ending: str) -> None:
    """Whichever replica the write goes through; all were answering from memory up to then."""
    for replica in range(3):
        seen = await w.end(ending, replica)

        assert [] == seen.late, seen
        assert 3 * len(QUESTIONS) * 5 <= seen.after
        assert seen.hits > 3 * len(QUESTIONS)

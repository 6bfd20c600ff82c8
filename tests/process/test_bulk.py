"""Bodies of any size pass in bounded memory; `make bulk` tries it with 1 GiB."""

from __future__ import annotations

from tests.process.bulk import measure


async def test_large_bodies_move_the_memory_of_the_process_little() -> None:
    """64 MiB up and down, whole, and the real process grows by less than 16 MiB."""
    grown, whole = await measure(64 << 20)

    assert whole
    assert grown < 16 << 20

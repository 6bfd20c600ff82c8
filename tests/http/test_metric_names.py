"""docs/metrics.md names each metric with its type and labels, and /metrics has no other."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.admin.metrics import exposition
from tests.valkey import Valkey
from tests.walk import bench, token_for

PAGE = Path(__file__).resolve().parents[2] / "docs/metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([`\w ]*)\|", re.MULTILINE)
# What needs key servers, or a Cluster.
ELSEWHERE = {"token_keys_age_seconds", "redis_connection_limit"}


async def test_the_page_names_what_there_is() -> None:
    """By name, type and labels; a label that no sample shows here is only on the page."""
    written = {
        name: (kind, frozenset(re.findall(r"\w+", labels)))
        for name, kind, labels in ROW.findall(PAGE.read_text())
    }
    with Valkey() as server:
        async with bench(redis=server.url) as at:
            for _ in range(3):
                await at.get("/users/1")
            await at.ask("PUT", "/profile", token=token_for(1), json={"bio": "new"})
            text = exposition(await at.app.operators._all(), "")[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        name = family.name.removeprefix("user_cache_proxy_") + ("_total" if family.type == "counter" else "")
        labels = frozenset(label for sample in family.samples for label in sample.labels) - {"le"}
        found[name] = (family.type, labels)
    assert set(found) | ELSEWHERE == set(written)
    wrong = {
        name: (written[name], told)
        for name, told in found.items()
        if told[0] != written[name][0] or (told[1] and told[1] != written[name][1])
    }
    assert {} == wrong

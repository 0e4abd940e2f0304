"""Redis' memory for a campaign and day is what `campaignwatch plan` says: a real one is filled by the product's own decoder and tables."""

from __future__ import annotations

from bench.redis_memory import CASES, run_case
from streams.embedded import EmbeddedRedis


async def test_a_filled_redis_takes_what_was_planned_within_a_quarter() -> None:
    with EmbeddedRedis() as server:
        found = await run_case(CASES["sparse"], server.url)
    assert found.events == 18_000
    assert 0.75 < found.used.ratio < 1.25, found.used
    planned = {each.kind: each.ratio for each in found.kinds}
    assert {"exact", "reach", "times", "names", "ids", "spend", "reports"} <= planned.keys()
    # The largest parts by themselves; small ones stand and fall with Redis' rounding.
    for kind in ("reach", "exact", "ids"):
        assert 0.75 < planned[kind] < 1.25, (kind, planned[kind])

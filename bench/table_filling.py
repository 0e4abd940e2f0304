"""Tables filled for a measurement: made-up events as facts, and the owner of a partition who applies them as a worker does."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from streams.config import Settings, Topic
from streams.ingest.aggregate import Facts, aggregate
from streams.ingest.coded import Coded
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.keys import PartitionKeys
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables
from streams.tables.store import PartitionStore

Ints = NDArray[np.int64]
#: The end of the day that is filled; everything is judged as of then.
NOW = 20_780 * DAY_MS
USERS_PER_CAMPAIGN = 5_000

_VALUES: dict[Topic, tuple[tuple[str, int, int], ...]] = {
    Topic.CLICKS: (("clicks", 1, 2), ("event_cost", 100_000, 3_000_000)),
    Topic.CONVERSIONS: (
        ("conversions", 1, 2),
        ("conversions_purchase", 1, 2),
        ("conversions_new", 0, 2),
        ("revenue", 5_000_000, 90_000_000),
    ),
    Topic.ENGAGEMENTS: (
        ("engagements_impression", 1, 2),
        ("engagements_view", 0, 2),
        ("event_cost", 0, 10_000),
        ("dwell_ms_sum", 100, 60_000),
        ("dwell_count", 1, 2),
    ),
}
#: Stored measures of each topic's rows.
MEASURES = {
    topic: (*(n for n, _, _ in values), *(("spend",) if topic is not Topic.CONVERSIONS else ())) for topic, values in _VALUES.items()
}


def names_of(campaigns: int) -> list[str | None]:
    return [f"campaign-{number:06}" for number in range(campaigns)]


def events(topic: Topic, campaign: Ints, times: Ints, chance: np.random.Generator, names: Sequence[str | None], *, sketches: bool) -> Facts:
    """An event of `topic` per entry, as facts; `sketches` gives it a user and, an engagement, a dwell time."""
    count = len(campaign)
    values = {name: chance.integers(low, high, count) for name, low, high in _VALUES[topic]}
    if "event_cost" in values:
        values["spend"] = values["event_cost"]
    facts = Facts(times, _dimensions(campaign, chance, names), values)
    if sketches:
        users = (campaign * USERS_PER_CAMPAIGN + chance.integers(0, USERS_PER_CAMPAIGN, count)).astype(np.uint64)
        facts.users = (np.arange(count), (users * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)).astype(np.uint32))
        if topic is Topic.ENGAGEMENTS:
            facts.buckets = {"dwell": (np.arange(count), chance.integers(300, 600, count))}
    return facts


def _dimensions(campaign: Ints, chance: np.random.Generator, names: Sequence[str | None]) -> dict[str, Coded]:
    """Two channels and platforms and four creatives a campaign, twenty campaigns an account, eight regions, four segments."""
    count = len(campaign)

    def numbered(prefix: str, codes: Ints) -> Coded:
        unique, number = np.unique(codes, return_inverse=True)
        return Coded(number.astype(np.int64), [f"{prefix}-{code}" for code in unique.tolist()])

    return {
        "campaign_id": Coded(campaign, list(names)),
        "account_id": numbered("account", campaign // 20),
        "channel": numbered("channel", (campaign + chance.integers(0, 2, count)) % 6),
        "platform": numbered("platform", (campaign + chance.integers(0, 2, count)) % 5),
        "creative_id": numbered("creative", campaign * 4 + chance.integers(0, 4, count)),
        "region": numbered("region", chance.integers(0, 8, count)),
        "segment": numbered("segment", chance.integers(0, 4, count)),
        "experiment_id": numbered("experiment", chance.integers(0, 3, count)),
        "variant_id": numbered("variant", chance.integers(0, 2, count)),
    }


class Partition:
    """One topic-partition and its owner, who has claimed it for `cubes` on `ladder`."""

    def __init__(
        self, redis: Redis, settings: Settings, topic: Topic, number: int, ladder: Ladder, cubes: Mapping[str, tuple[str, ...]]
    ) -> None:
        self.keys = PartitionKeys(settings.redis.namespace, settings.topic(topic), number)
        self._cubes, self._ladder = cubes, ladder
        self._store = PartitionStore(redis, self.keys, cubes)
        self._tables = OpenTables(self.keys, ladder, cubes, max_rows=10**9, known=())
        self._offset = -1

    @classmethod
    async def claimed(
        cls, redis: Redis, settings: Settings, topic: Topic, number: int, ladder: Ladder, cubes: Mapping[str, tuple[str, ...]]
    ) -> Partition:
        partition = cls(redis, settings, topic, number, ladder, cubes)
        await partition._store.claim(0, NOW)
        return partition

    async def flush(self, facts: Facts, event_time: int = NOW) -> tuple[float, float]:
        """Apply facts; returns the seconds spent in this process (cells, open tables, chunks) and those spent on writing.

        `event_time`: of the newest event and its record, epoch ms.
        """
        began = time.perf_counter()
        for day in self._tables.missing_days(np.unique(facts.times // DAY_MS * DAY_MS).tolist()):
            self._tables.load_day(day, {})
        for cube, cells in aggregate(facts, self._cubes, self._ladder.levels[0].size).items():
            self._tables.add(cube, cells, event_time)
        before, self._offset = self._offset, self._offset + len(facts.times)
        commands = self._tables.take_commands(self._offset, 400 * 86_400)
        made = time.perf_counter()
        meta = Meta(0, self._offset, read=self._offset + 1, applied=self._offset + 1, record_time=event_time, event_time=event_time)
        await self._store.apply(before, meta, commands)
        return made - began, time.perf_counter() - made

"""Tables filled the way a worker fills them (aggregate, open tables, atomic write), without Kafka in front."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from redis.asyncio import Redis

from streams.config import DIMENSIONS, Settings, Topic
from streams.ingest.aggregate import Facts, aggregate
from streams.ingest.coded import encode
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.keys import PartitionKeys
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables
from streams.tables.store import PartitionStore


@dataclass(frozen=True)
class Fact:
    """Something that happened: when (epoch ms), where (dimensions), and what it adds to the stored measures."""

    at: int
    dimensions: Mapping[str, str]
    values: Mapping[str, int]
    user: int | None = None
    dwell_bucket: int | None = None


@dataclass
class Filled:
    """One topic-partition that has been filled."""

    topic: Topic
    partition: int
    facts: Sequence[Fact] = field(default_factory=list)
    #: Newest record time, epoch ms; the events' times are judged against it.
    record_time: int = 0
    #: Registry entries (the campaigns topic only).
    campaigns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


async def fill(redis: Redis, settings: Settings, filled: Filled) -> None:
    """Write one topic-partition's tables in a single flush, at offset len(facts) - 1."""
    keys = PartitionKeys(settings.redis.namespace, settings.topic(filled.topic), filled.partition)
    cubes = settings.all_cubes
    ladder = Ladder(settings.streams.ladder)
    store = PartitionStore(redis, keys, cubes)
    meta = await store.claim(0, filled.record_time)
    tables = OpenTables(keys, ladder, cubes, max_rows=1_000_000, known=[])
    times = np.array([fact.at for fact in filled.facts], np.int64)
    for day in np.unique(times // DAY_MS).tolist():
        tables.load_day(day, {})
    if filled.facts:
        for cube, cells in aggregate(_facts(filled.facts, times), cubes, ladder.levels[0].size).items():
            tables.add(cube, cells, filled.record_time)
    count = len(filled.facts) + len(filled.campaigns)
    newest = int(times.max()) if len(times) else 0
    after = Meta(
        start_offset=0,
        applied_offset=count - 1,
        read=count,
        applied=count,
        record_time=filled.record_time,
        event_time=newest,
        applied_at=filled.record_time,
        caught_up_at=filled.record_time,
    )
    commands = tables.take_commands(count - 1, 86_400)
    for campaign_id, campaign in filled.campaigns.items():
        commands.append(("HSET", keys.registry(), campaign_id, json.dumps(campaign)))
    await store.apply(meta.applied_offset, after, commands)


def _facts(facts: Sequence[Fact], times: Any) -> Facts:
    measures = sorted({name for fact in facts for name in fact.values})
    users = [(i, fact.user) for i, fact in enumerate(facts) if fact.user is not None]
    dwells = [(i, fact.dwell_bucket) for i, fact in enumerate(facts) if fact.dwell_bucket is not None]
    return Facts(
        times,
        {name: encode([fact.dimensions.get(name) for fact in facts]) for name in DIMENSIONS},
        {name: np.array([fact.values.get(name, 0) for fact in facts], np.int64) for name in measures},
        users=(np.array([i for i, _ in users], np.int64), np.array([u for _, u in users], np.uint32)) if users else None,
        buckets={"dwell": (np.array([i for i, _ in dwells], np.int64), np.array([b for _, b in dwells], np.int64))} if dwells else {},
    )

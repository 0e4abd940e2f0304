"""A Redis filled with a known load, as workers fill it: every record through the decoder, duplicates, tables and the atomic write.

Time is that of the records, so that hours of a load take seconds.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

from redis.asyncio import Redis

from streams.config import Settings, Topic
from streams.ingest.dedupe import Seen
from streams.ingest.flush import PartitionFlusher
from streams.ingest.records import Records
from streams.panes.ladder import Ladder
from streams.planning.load import EVENTS, Load
from streams.tables.keys import PartitionKeys
from streams.tables.opentables import OpenTables
from streams.tables.store import PartitionStore

#: A UTC day begins with the load.
START = 20_780 * 86_400_000
_CELLS = 64_000_000


class Record(NamedTuple):
    """A record as it is fetched."""

    offset: int
    timestamp: int
    key: bytes
    value: bytes


class Filling:
    """Topic-partitions of all event topics that take in a load."""

    def __init__(self, redis: Redis, settings: Settings, load: Load, seed: int = 1) -> None:
        self._redis, self._settings, self._load = redis, settings, load
        self._chance = random.Random(seed)  # nosec B311 # made-up events, no secret
        self._owned: dict[tuple[Topic, int], PartitionFlusher] = {}
        self._offsets: Counter[tuple[Topic, int]] = Counter()
        self._events = 0

    async def run(self, seconds: int, flush_every: int) -> int:
        """Take in `seconds` of the load from START on, a flush of each partition every so many seconds. Returns how many events."""
        for begin in range(0, seconds, flush_every):
            records: dict[tuple[Topic, int], list[Record]] = {}
            for topic, at in self._times(begin, min(flush_every, seconds - begin)):
                campaign = self._chance.randrange(self._load.campaigns)
                self._append(records, topic, campaign, START + at, self._event(topic, campaign, START + at))
            if begin == 0:
                self._reports(records)
            for (topic, partition), batch in records.items():
                await self._flush(topic, partition, batch)
        return self._events

    def _times(self, begin: int, length: int) -> Iterator[tuple[Topic, int]]:
        count = round(self._load.events_per_second * length)
        topics = self._chance.choices(EVENTS, [self._load.mix[topic] for topic in EVENTS], k=count)
        times = sorted(self._chance.randrange(begin * 1000, (begin + length) * 1000) for _ in range(count))
        return zip(topics, times, strict=True)

    def _append(self, records: dict[tuple[Topic, int], list[Record]], topic: Topic, campaign: int, at: int, value: dict[str, Any]) -> None:
        owner = (topic, campaign % self._settings.kafka.partitions)
        offset = self._offsets[owner]
        self._offsets[owner] += 1
        records.setdefault(owner, []).append(Record(offset, at, value["campaign_id"].encode(), json.dumps(value).encode()))

    def _event(self, topic: Topic, campaign: int, at: int) -> dict[str, Any]:
        """An event as `usual_values` has them: two channels and platforms and four creatives a campaign, ..."""
        chance, load = self._chance, self._load
        self._events += 1
        event: dict[str, Any] = {
            "event_id": f"{chance.getrandbits(64):016x}-{self._events:012d}",
            "occurred_at": at,
            "campaign_id": f"campaign-{campaign:06d}",
            "account_id": f"account-{campaign // 20:05d}",
            "channel": f"channel-{(campaign + chance.randrange(2)) % 6}",
            "platform": f"platform-{(campaign + chance.randrange(2)) % 5}",
            "creative_id": f"creative-{campaign * 4 + chance.randrange(4):07d}",
            "region": f"region-{chance.randrange(8)}",
            "segment": f"segment-{chance.randrange(4)}",
            "experiment_id": f"experiment-{campaign % 10}",
            "variant_id": "AB"[chance.randrange(2)],
        }
        if chance.random() < load.user_part(topic):
            pool = load.users * load.campaigns_per_user / load.campaigns
            event["user_id"] = f"user-{int(campaign * load.users / load.campaigns + chance.random() * pool) % int(load.users)}"
        if topic is Topic.CLICKS:
            event["cost"] = f"{chance.randrange(1, 300) / 100:.2f}"
        elif topic is Topic.CONVERSIONS:
            event |= {"kind": "purchase", "order_id": event["event_id"], "value": f"{chance.randrange(500, 9_000) / 100:.2f}"}
            event["customer_type"] = "new" if chance.random() < 0.5 else "returning"
        else:
            event |= {"kind": "impression", "cost": f"{chance.randrange(1, 10) / 1000:.3f}"}
            if chance.random() < load.timed:
                # Spread over the buckets evenly, as the plan has it.
                event["dwell_ms"] = int(200 * 1.02 ** chance.randrange(300))
        return event

    def _reports(self, records: dict[tuple[Topic, int], list[Record]]) -> None:
        """Each campaign's spend reports of the day before and so on, as they come in when a day begins."""
        for campaign in range(self._load.campaigns):
            for number in range(round(self._load.reports)):
                end = START - number * 86_400_000
                report = {
                    "event_id": f"report-{campaign}-{number}",
                    "occurred_at": START,
                    "campaign_id": f"campaign-{campaign:06d}",
                    "account_id": f"account-{campaign // 20:05d}",
                    "channel": f"channel-{campaign % 6}",
                    "platform": f"platform-{campaign % 5}",
                    "period_start": end - 86_400_000,
                    "period_end": end,
                    "amount": f"{self._chance.randrange(1_000, 50_000) / 100:.2f}",
                }
                self._append(records, Topic.SPEND, campaign, START, report)

    async def _flush(self, topic: Topic, partition: int, records: list[Record]) -> None:
        flusher = self._owned.get((topic, partition))
        if flusher is None:
            flusher = self._owned[topic, partition] = await self._claim(topic, partition)
        store = flusher._store
        before = flusher.meta.applied_offset
        flush = await flusher.flush(Records.of(records), records[-1].timestamp)
        assert not flush.refusals, flush.refusals[0]
        await store.apply(before, flush.meta, flush.commands)
        flusher.tables.forget(_CELLS)

    async def _claim(self, topic: Topic, partition: int) -> PartitionFlusher:
        settings = self._settings
        keys = PartitionKeys(settings.redis.namespace, settings.topic(topic), partition)
        store = PartitionStore(self._redis, keys, settings.all_cubes)
        meta = await store.claim(0, START)
        tables = OpenTables(keys, Ladder(settings.streams.ladder), settings.all_cubes, max_rows=10**9, known=())
        return PartitionFlusher(topic, settings, store, tables, Seen(int(settings.streams.dedupe_horizon * 1000)), meta)


async def weigh(redis: Redis, namespace: str) -> Counter[str]:
    """Bytes of Redis' memory by topic and kind of key: `clicks pane`, `engagements reach`, `spend reports`, ..."""
    found: Counter[str] = Counter()
    async for key in redis.scan_iter(match=f"{namespace}:{{*", count=1_000):
        partition, _, name = key.decode().partition("}:")
        topic = partition.rpartition(".")[2].partition(":")[0]
        found[f"{topic} {name.partition(':')[0]}"] += await redis.memory_usage(key, samples=0) or 0
    return found

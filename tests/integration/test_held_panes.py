"""A reader that holds panes between its answers: it never tells anything but what a new reader reads, whatever has happened to Redis."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from streams.config import Http, Kafka, Settings, Topic
from streams.config import Redis as RedisSettings
from streams.embedded import EmbeddedRedis
from streams.ingest.flush import PartitionFlusher
from streams.privacy.erasing import erase
from streams.redis_cluster import ClusterClient
from streams.tables.reader import TableReader
from streams.tables.windows import Window
from tests.hostile_log import DAY, MINUTE
from tests.integration.conftest import client_of
from tests.integration.test_tables_any_order import record, sent
from tests.integration.test_tables_exact import NOW, apply, open_partition
from tests.reference import LogRecord

_numbers = itertools.count()
QUARTER = NOW // (15 * MINUTE) * 15 * MINUTE
WINDOWS = ((QUARTER - 60 * MINUTE, QUARTER + 60 * MINUTE), (NOW // DAY * DAY - 10 * DAY, NOW // DAY * DAY + DAY))
CUBES = ("total", "campaign")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), st.integers(0, 3), st.integers(1, 4)),
        st.tuples(st.just("take over"), st.integers(0, 3), st.just(0)),
        st.tuples(st.sampled_from(("read", "read without sketches", "keep", "restore", "erase")), st.just(0), st.just(0)),
    ),
    max_size=16,
)


class Tables:
    """Partitions that workers fill, and a Redis that comes back with what it held before."""

    def __init__(self, config: Settings, redis: Redis, log: dict[tuple[Topic, int], list[LogRecord]]) -> None:
        self.config = config
        self.redis = redis
        self.log = log
        self.places = sorted(log)
        self.owned: dict[tuple[Topic, int], PartitionFlusher] = {}
        self.kept: dict[bytes, bytes] = {}

    async def apply(self, which: int, count: int) -> None:
        place = self.places[which % len(self.places)]
        if place not in self.owned:
            self.owned[place] = await open_partition(*place, self.config, self.redis)
        begin = self.owned[place].meta.applied_offset + 1
        if records := self.log[place][begin : begin + count]:
            await apply(self.owned[place], records)

    def take_over(self, which: int) -> None:
        self.owned.pop(self.places[which % len(self.places)], None)

    async def keep(self) -> None:
        self.kept = {key: await self.redis.dump(key) or b"" async for key in self.redis.scan_iter()}

    async def restore(self) -> None:
        """As a Redis does that was killed: what was written since is gone. Its owners notice and claim their partitions again."""
        await self.redis.flushall()
        for key, content in self.kept.items():
            await self.redis.restore(key, 0, content)
        self.owned.clear()

    async def erase(self) -> None:
        await erase(self.redis, self.config, ["u1"], NOW)
        self.owned.clear()


def told(window: Window) -> dict[Any, dict[str, float]]:
    return {
        key: {name: int(column[i]) for name, column in window.measures.items() if column[i]}
        | {name: float(column[i]) for name, column in window.estimates.items() if not np.isnan(column[i])}
        for i, key in enumerate(window.rows)
    }


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(sent, min_size=1, max_size=16), order=steps, limit=st.sampled_from((0, 4_000, 10**9)))
def test_what_is_held_is_what_a_new_reader_reads(
    redis_server: EmbeddedRedis, drawn: list[dict[str, Any]], order: Sequence[tuple[str, int, int]], limit: int
) -> None:
    config = Settings(
        kafka=Kafka(topic_prefix="p"),
        redis=RedisSettings(url=redis_server.url, namespace=f"held-{next(_numbers)}"),
        http=Http(cache_bytes=limit),
        cubes={},
    )
    log: dict[tuple[Topic, int], list[LogRecord]] = {}
    time = NOW - 60 * MINUTE
    for each in drawn:
        time += each["on"]
        records = log.setdefault((each["topic"], each["id"] % 2), [])
        records.append(LogRecord(config.topic(each["topic"]), each["id"] % 2, len(records), time, *record(each, time)))

    async def check() -> None:
        redis = client_of(redis_server.url)
        tables, holding = Tables(config, redis, log), TableReader(redis, config)
        try:
            for what, which, count in (*order, ("read", 0, 0), *(("apply", i, 16) for i in range(4)), ("read", 0, 0)):
                match what:
                    case "apply":
                        await tables.apply(which, count)
                    case "take over":
                        tables.take_over(which)
                    case "keep":
                        await tables.keep()
                    case "restore":
                        await tables.restore()
                    case "erase":
                        await tables.erase()
                    case _:
                        for cube, (start, end) in itertools.product(CUBES, WINDOWS):
                            sketches = what == "read"
                            held = await holding.window(cube, start, end, estimates=sketches)
                            assert told(held) == told(await TableReader(redis, config).window(cube, start, end, estimates=sketches))
        finally:
            await redis.flushall()
            await redis.aclose()

    asyncio.run(check())


async def test_only_what_has_changed_is_read_again(settings: Settings, redis: Redis) -> None:
    log = [click(settings, offset, NOW - 30 * MINUTE + offset * MINUTE) for offset in range(20)]
    flusher = await open_partition(Topic.CLICKS, 0, settings, redis)
    reader = TableReader(redis, settings)
    answers = []
    for begin in range(0, 20, 4):
        await apply(flusher, log[begin : begin + 4])
        for _ in range(2):
            before = await sent_bytes(redis)
            window = await reader.window("campaign", QUARTER - 60 * MINUTE, QUARTER + 60 * MINUTE)
            answers.append(await sent_bytes(redis) - before)
            assert window.measures["clicks"].sum() == window.estimates["reach"].sum() == begin + 4
    # The first answer of the last four records reads the panes of these; the second one of any reads none.
    fresh = TableReader(redis, settings)
    before = await sent_bytes(redis)
    await fresh.window("campaign", QUARTER - 60 * MINUTE, QUARTER + 60 * MINUTE)
    everything = await sent_bytes(redis) - before
    assert answers[9] < answers[8] < everything


async def test_panes_are_held_up_to_the_limit(settings: Settings, redis: Redis) -> None:
    small = settings.model_copy(update={"http": Http(cache_bytes=1_500)})
    await apply(await open_partition(Topic.CLICKS, 0, settings, redis), [click(settings, n, NOW - n * MINUTE) for n in range(20)])
    whole, little = TableReader(redis, settings), TableReader(redis, small)
    for reader in (whole, little):
        assert (await reader.window("campaign", QUARTER - 60 * MINUTE, QUARTER + 60 * MINUTE)).measures["clicks"].sum() == 20
    assert 0 < little.held_bytes <= 1_500 < whole.held_bytes


async def sent_bytes(redis: Redis) -> int:
    """What the server, or the masters of the cluster, have sent so far."""
    nodes = [redis.plain(node) for node in redis.get_primaries()] if isinstance(redis, ClusterClient) else [redis]
    found = [(await node.info("stats"))["total_net_output_bytes"] for node in nodes]
    return sum(found)


def click(settings: Settings, offset: int, at: int) -> LogRecord:
    # Even ids are in the reporting currency.
    drawn = {"topic": Topic.CLICKS, "id": 2 * offset, "campaign": "c", "user": f"u{offset}", "money": "1", "age": 0, "broken": False}
    return LogRecord(settings.topic(Topic.CLICKS), 0, offset, at, *record(drawn, at))

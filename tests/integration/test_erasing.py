"""A user can be erased: out of the tables while they are written, and the log does not bring the user back."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process, create_subprocess_exec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from streams.config import Kafka, Privacy, Settings, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.embedded import EmbeddedRedis
from streams.ingest.claiming import claim
from streams.ingest.continuity import Break, LogState
from streams.ingest.flush import PartitionFlusher
from streams.ingest.records import Record, Records
from streams.ingest.texts import Texts
from streams.ingest.users import user_hasher
from streams.kpis.sketches import SPARSE_LIMIT
from streams.privacy.erasing import erase
from streams.tables.generations import PartitionTables
from streams.tables.keys import PartitionKeys
from streams.tables.reader import TableReader
from streams.tables.store import Fenced, PartitionStore, Unheeded
from streams.topics import create_topics
from tests.integration.conftest import Broker
from tests.integration.test_tables_exact import open_partition
from tests.integration.workers import applied, ledger, own_settings, rows, send, until, worker

NOW = 1_790_000_000_000
WINDOW = (NOW - 600_000, NOW + 60_000)


@pytest.fixture
def settings(redis_url: str) -> Settings:
    return Settings(kafka=Kafka(topic_prefix="erase"), redis=RedisSettings(url=redis_url), privacy=Privacy(user_key=SecretStr("test")))


def log_of(users: list[str], first: int = 0, at: int = NOW) -> Records:
    return Records.of(Record(first + i, at, b"c", json.dumps(click(first + i, u, at)).encode()) for i, u in enumerate(users))


def click(number: int, user: str, at: int) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "occurred_at": at, "campaign_id": "c", "channel": "search", "cost": "0.01", "user_id": user}


async def opened(settings: Settings, redis: Redis) -> PartitionFlusher:
    flusher = await open_partition(Topic.CLICKS, 0, settings, redis)
    flusher.erased = await flusher._store.erased(settings.privacy.user_key.get_secret_value())
    return flusher


async def take_in(flusher: PartitionFlusher, records: Records) -> None:
    before = flusher.meta.applied_offset
    flush = await flusher.flush(records, NOW)
    await flusher._store.apply(before, flush.meta, flush.commands)


async def reach(settings: Settings, redis: Redis) -> tuple[float, int]:
    window = await TableReader(redis, settings).window("campaign", WINDOW[0] // 60_000 * 60_000, WINDOW[1] // 60_000 * 60_000)
    return float(window.estimates["reach"][0]), int(window.measures["clicks"][0])


async def holds(redis: Redis, settings: Settings, user: str) -> bool:
    """Whether any reach log in Redis has the user's hash."""
    (wanted,) = user_hasher(settings.privacy.user_key.get_secret_value())(Texts.of([user])).tolist()
    logs = [await redis.get(key) async for key in redis.scan_iter(match="*:reach:*")]
    return any(wanted in np.frombuffer(log, np.uint32)[::2] for log in logs if isinstance(log, bytes))


async def lost(settings: Settings, redis: Redis) -> list[str]:
    """Keys of the tables that are not as their owner, or an erasure, left them."""
    return await PartitionStore(redis, PartitionKeys(settings.redis.namespace, "erase.clicks", 0), settings.all_cubes).lost_keys(0)


async def test_an_erased_user_is_out_of_every_log_and_nothing_else_changes(settings: Settings, redis: Redis) -> None:
    await take_in(await opened(settings, redis), log_of(["ann", "bob", "cid", "ann"]))
    assert await reach(settings, redis) == (3, 4)
    left_out = (b"meta", b"kept")
    before = {
        key: await redis.dump(key) async for key in redis.scan_iter(match="*") if b":reach:" not in key and not key.endswith(left_out)
    }

    looked = await erase(redis, settings, ["bob"], NOW + 1, dry_run=True)
    assert await holds(redis, settings, "bob")
    done = await erase(redis, settings, ["bob"], NOW + 1)

    assert (looked.entries, looked.changed) == (done.entries, done.changed)
    assert done.entries["erase.clicks"] > 0
    assert not await holds(redis, settings, "bob")
    assert await reach(settings, redis) == (2, 4)
    assert {key: await redis.dump(key) for key in before} == before
    assert min([await redis.ttl(key) async for key in redis.scan_iter(match="*:reach:*")]) > 0
    assert not (await erase(redis, settings, ["bob"], NOW + 2)).entries
    assert await lost(settings, redis) == []


async def test_who_had_the_tables_in_memory_is_fenced_and_the_log_brings_nobody_back(settings: Settings, redis: Redis) -> None:
    owner = await opened(settings, redis)
    await take_in(owner, log_of(["ann", "bob"]))
    await erase(redis, settings, ["bob"], NOW + 1)
    with pytest.raises(Fenced):
        await take_in(owner, log_of(["cid"], 2))

    again = await opened(settings, redis)
    await take_in(again, log_of(["bob", "cid"], 2))  # from before the erasure, but not read before
    assert await reach(settings, redis) == (2, 4)
    await take_in(again, log_of(["bob"], 4, NOW + 1))  # came back by themselves
    assert await reach(settings, redis) == (3, 5)

    async for key in redis.scan_iter(match="*:{*"):
        await redis.delete(key)
    await take_in(await opened(settings, redis), log_of(["ann", "bob"]))
    assert await reach(settings, redis) == (1, 2)


async def test_other_generations_of_the_tables_are_erased_too(settings: Settings, redis: Redis) -> None:
    later = settings.model_copy(update={"redis": settings.redis.model_copy(update={"namespace": "cw~2"})})
    for one in (settings, later):
        await take_in(await opened(one, redis), log_of(["ann", "bob"]))
    await erase(redis, settings, ["bob"], NOW + 1)
    assert not await holds(redis, settings, "bob")
    keys = PartitionKeys("cw~2", "erase.clicks", 0)
    erased = await PartitionStore(redis, keys, settings.all_cubes).erased("test")
    assert erased
    assert (await reach(settings, redis), await reach(later, redis)) == ((1, 2), (1, 2))


async def test_a_log_of_a_cube_that_the_settings_no_longer_have_is_missed_as_little(settings: Settings, redis: Redis) -> None:
    more = settings.model_copy(update={"cubes": {"keyword": ("campaign_id", "keyword")}})
    await take_in(await opened(more, redis), log_of(["ann", "bob"]))
    again = await claim(Topic.CLICKS, settings, PartitionTables(redis, settings, "erase.clicks", 0), LogState(earliest=0, end=9), NOW)
    assert [finding.kind for finding in again.findings] == [Break.SETTINGS_CHANGED]
    assert await lost(settings, redis) == []
    await erase(redis, settings, ["bob"], NOW + 1)
    assert not await holds(redis, settings, "bob")
    assert await lost(settings, redis) == []


@pytest.mark.parametrize("users", [SPARSE_LIMIT, SPARSE_LIMIT + 3_000])
async def test_a_row_that_is_an_estimate_stays_one(users: int, settings: Settings, redis: Redis) -> None:
    names = [f"u{i}" for i in range(users)]
    await take_in(await opened(settings, redis), log_of(names[:SPARSE_LIMIT]))
    if names[SPARSE_LIMIT:]:
        await take_in(await opened(settings, redis), log_of(names[SPARSE_LIMIT:], SPARSE_LIMIT))
    before, _ = await reach(settings, redis)
    await erase(redis, settings, names[:20], NOW + 1)
    after, clicks = await reach(settings, redis)
    for name in names[:20]:
        assert not await holds(redis, settings, name)
    assert clicks == users
    assert before * 0.97 < after <= before


async def test_a_partition_that_never_had_the_user_goes_on_and_learns_of_it(settings: Settings, redis: Redis) -> None:
    owner = await opened(settings, redis)
    await take_in(owner, log_of(["ann"]))
    held = owner._store
    assert await held.newly_erased("test") is None
    done = await erase(redis, settings, ["bob"], NOW + 1)
    assert (done.logs > 0, done.changed) == (True, 0)

    # A flush that was made without knowledge of it is not applied, or bob would be in a log that was searched already.
    before = owner.meta.applied_offset
    flush = await owner.flush(log_of(["bob"], 1), NOW)
    with pytest.raises(Unheeded):
        await held.apply(before, flush.meta, flush.commands)
    assert not await holds(redis, settings, "bob")

    again = await opened(settings, redis)
    await erase(redis, settings, ["cid"], NOW + 1)
    again.erased = await again._store.newly_erased("test")
    await take_in(again, log_of(["bob", "cid", "dan"], 1))
    assert await reach(settings, redis) == (2, 4)


async def test_a_flush_whose_answer_was_lost_stays_applied_when_users_are_erased_meanwhile(settings: Settings, redis: Redis) -> None:
    owner = await opened(settings, redis)
    flush = await owner.flush(log_of(["ann", "bob"]), NOW)
    await owner._store.apply(-1, flush.meta, flush.commands)
    await erase(redis, settings, ["eve"], NOW + 1)
    await owner._store.apply(-1, flush.meta, flush.commands)
    assert await reach(settings, redis) == (2, 2)


async def test_an_erasure_that_redis_forgot_again_has_the_tables_looked_at_again(settings: Settings, redis: Redis) -> None:
    """It comes back from a copy of before the erasure, and the partition has not moved since."""
    owner = await opened(settings, redis)
    await take_in(owner, log_of(["ann"]))
    await erase(redis, settings, ["bob"], NOW + 1)
    assert await owner._store.newly_erased("test") is not None
    await redis.hdel(owner._store.keys.meta(), "erasure")
    before = owner.meta.applied_offset
    flush = await owner.flush(log_of(["cid"], 1), NOW)
    with pytest.raises(Unheeded):
        await owner._store.apply(before, flush.meta, flush.commands)


async def test_a_row_whose_users_are_all_erased_tells_nothing_of_reach(settings: Settings, redis: Redis) -> None:
    """As a row whose events never named a user: nobody is known to have been reached, which is not the same as nobody."""
    await take_in(await opened(settings, redis), log_of(["ann", "bob"]))
    await erase(redis, settings, ["ann", "bob"], NOW + 1)
    users, clicks = await reach(settings, redis)
    assert np.isnan(users)
    assert clicks == 2
    assert [key async for key in redis.scan_iter(match="*:reach:*")] == []
    assert await lost(settings, redis) == [], "what was erased of a pane, in all of its logs, is not missed"
    await take_in(await opened(settings, redis), log_of(["ann"], 2, NOW + 1))
    assert await reach(settings, redis) == (1, 3)


async def test_an_active_user_is_erased_while_events_keep_coming(broker: Broker, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """u0 goes on being active and is a new user from then on; u1 is not seen again. Nothing else changes, and nobody waits for long."""
    settings = own_settings(broker, redis_server, streams=Streams(http_port=0, idle_timeout=2.0))
    await create_topics(settings)
    refused = [{"event_id": "bad", "user_id": "u1", "campaign_id": "c"}, {"event_id": "bad", "user_id": "u2", "campaign_id": "c"}]
    with worker(settings, tmp_path) as one:
        await send(settings, Topic.CLICKS, [*(click(i, f"u{i % 50}", now()) for i in range(2_000)), *refused])
        await applied(one.url, 2_002)
        sent, ended = 2_000, asyncio.Event()

        async def load() -> int:
            """Batches sent while users were being erased."""
            nonlocal sent
            during = 0
            while not ended.is_set():
                await send(settings, Topic.CLICKS, [click(i, f"u{i % 50}", now()) for i in range(sent, sent + 100) if i % 50 != 1])
                sent += 100
                during += running is not None and running.returncode is None
            return during

        running: Process | None = None
        loading = asyncio.create_task(load())
        await applied(one.url, 2_300)
        command = ["-m", "alerts.cli", "privacy", "erase", "--user", "-", "--quarantine", "--config", str(one.config)]
        running = await create_subprocess_exec(sys.executable, *command, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        said, complaints = await running.communicate(b"u0\nu1\n")
        at_end = sent
        await until(lambda: ledger(one.url), lambda found: found.total("applied") > at_end * 0.98, timeout=60)
        ended.set()
        assert await loading > 0, "nothing was sent meanwhile"
        assert running.returncode == 0, complaints
        (place,) = [line for line in said.decode().splitlines() if line.startswith("quarantined: ")]
        assert place.startswith(f"quarantined: {settings.topic(Topic.CLICKS)}:")

        clicks = 2_000 + (sent - 2_000) * 49 // 50
        found = await until(lambda: ledger(one.url), lambda seen: seen.total("applied") >= clicks, timeout=60)
        assert (found.total("applied"), found.total("quarantined"), found.balanced) == (clicks, 2, True)
        row = (await until(lambda: rows(one.url, window="1h"), lambda seen: seen.get("c", {}).get("clicks") == clicks))["c"]
        assert row["reach"] == 49
        fenced = [line for line in one.said().splitlines() if "fenced:" in line]
        assert {line.partition("owner: ")[2].partition(": ")[0].rpartition(":")[0] for line in fenced} <= {settings.topic(Topic.CLICKS)}
        assert [line for line in fenced if "again in 0.2 s" not in line] == []


def now() -> int:
    return time.time_ns() // 1_000_000

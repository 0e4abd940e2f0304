"""Redis is slow, frozen, away or full while far more comes than fits: the worker's memory stays bounded, the group stays together, and
once Redis is well again everything is applied, once."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import redis
from aiokafka.admin import AIOKafkaAdminClient

from streams.config import Redis as RedisSettings
from streams.config import Settings, Streams, Topic
from streams.embedded import EmbeddedRedis
from tests.integration.proxies import Proxy
from tests.integration.test_workers import owned, scraped
from tests.integration.workers import Worker, applied, get, rows, send, until, worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: Seconds that the trouble lasts: five times the session time-out.
TROUBLE = 30.0
#: Records that come meanwhile, of some 2 kB each: 160 MB, of which a worker may hold a small part.
RECORDS, PADDING = 80_000, 1_900
WAITING_MB = RECORDS * (PADDING + 150) / 1e6
#: What the worker may grow by: 2 x 500 pending records in each of 10 partitions, a fetch and some batches of 1 MiB in each, and slack.
ALLOWED_MB = 100.0


@pytest.fixture
def server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis(append_only="everysec") as own:
        yield own


@pytest.fixture
def proxy(server: EmbeddedRedis) -> Iterator[Proxy]:
    with Proxy(server.port) as between:
        yield between


@asynccontextmanager
async def slow(server: EmbeddedRedis, proxy: Proxy) -> AsyncIterator[None]:
    proxy.delay = 0.5
    yield
    proxy.delay = 0.0


@asynccontextmanager
async def frozen(server: EmbeddedRedis, proxy: Proxy) -> AsyncIterator[None]:
    server.pause()
    yield
    server.resume()


@asynccontextmanager
async def away(server: EmbeddedRedis, proxy: Proxy) -> AsyncIterator[None]:
    await asyncio.to_thread(server.kill)
    yield
    await asyncio.to_thread(server.start)


@asynccontextmanager
async def full(server: EmbeddedRedis, proxy: Proxy) -> AsyncIterator[None]:
    with redis.Redis.from_url(server.url) as client:
        client.config_set("maxmemory", "1mb")
        yield
        client.config_set("maxmemory", "0")


Trouble = Callable[[EmbeddedRedis, Proxy], AbstractAsyncContextManager[None]]


def memory_mb(one: Worker) -> float:
    """Resident memory of the worker."""
    pages = int(Path(f"/proc/{one.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def members(settings: Settings) -> list[str]:
    """Ids of the members of the consumer group, as the broker has them: one that it misses for the session time-out is given up."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_consumer_groups([f"{settings.kafka.topic_prefix}-streams"])
        ((_, _, state, _, _, found, *_),) = answer.groups
        assert state == "Stable", state
        return sorted(member[0] for member in found)
    finally:
        await admin.close()


async def produce(settings: Settings, first: int, count: int) -> None:
    now = time.time_ns() // 1_000_000
    for start in range(first, first + count, 5_000):
        await send(
            settings,
            Topic.CLICKS,
            [
                {
                    "event_id": f"e-{number}",
                    "occurred_at": now,
                    "campaign_id": f"c-{number % 50}",
                    "channel": "search",
                    "landing_page": "p" * PADDING,
                }
                for number in range(start, min(start + 5_000, first + count))
            ],
        )


@pytest.mark.parametrize("trouble", [slow, frozen, away, full], ids=["slow", "frozen", "away", "full"])
async def test_trouble_with_redis_is_waited_out(
    trouble: Trouble, ready: Settings, server: EmbeddedRedis, proxy: Proxy, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    settings = ready.model_copy(
        update={
            "redis": RedisSettings(url=f"redis://127.0.0.1:{proxy.port}/0", timeout=2.0),
            "streams": Streams(http_port=0, flush_events=500),
        }
    )
    with worker(settings, tmp_path) as one:
        await produce(settings, 0, 5_000)
        await applied(one.url, 5_000, timeout=60)
        partitions, group = owned(one), await members(settings)
        assert partitions == 5 * settings.kafka.partitions
        assert len(group) == 1
        before = highest = memory_mb(one)
        began = time.monotonic()
        async with trouble(server, proxy):
            producing = asyncio.create_task(produce(settings, 5_000, RECORDS))
            while time.monotonic() - began < TROUBLE or not producing.done():
                highest = max(highest, memory_mb(one))
                await asyncio.sleep(0.2)
            await producing
            assert await members(settings) == group
            assert get(f"{one.url}/healthz")[0] == 200
            if trouble is not slow:
                assert get(f"{one.url}/readyz")[0] == 503
        well = time.monotonic()
        await applied(one.url, 5_000 + RECORDS, timeout=120)
        caught_up = time.monotonic() - well
        highest = max(highest, memory_mb(one))
        await until(lambda: get(f"{one.url}/readyz")[0], lambda status: status == 200)
        (total,) = rows(one.url, "total", window="1d").values()
        assert total["clicks"] == 5_000 + RECORDS
        measured = {"grown_mb": round(highest - before), "waiting_mb": round(WAITING_MB), "caught_up_s": round(caught_up, 1)}
        record_property("measured", json.dumps(measured))
        print(trouble.__name__, measured)
        assert highest - before < ALLOWED_MB < WAITING_MB
        assert owned(one) == partitions


async def test_a_policy_that_may_drop_keys_is_noticed_while_the_worker_runs(ready: Settings, server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = ready.model_copy(update={"redis": RedisSettings(url=server.url, check_interval=0.5)})
    metric = ("campaignwatch_redis_eviction_policy_unsafe", ())
    with worker(settings, tmp_path) as one, redis.Redis.from_url(server.url) as client:
        await until(lambda: scraped(one.url), lambda found: found.get(metric) == 0)
        client.config_set("maxmemory-policy", "allkeys-lru")
        await until(lambda: scraped(one.url), lambda found: found.get(metric) == 1)
        await until(lambda: may_drop_keys(one.url), lambda policy: policy is not None and "allkeys-lru" in policy)
        assert "set maxmemory-policy to noeviction" in one.said()
        client.config_set("maxmemory-policy", "noeviction")
        await until(lambda: scraped(one.url), lambda found: found.get(metric) == 0)
        await until(lambda: may_drop_keys(one.url), lambda policy: policy is None)


def may_drop_keys(url: str) -> str | None:
    """What /readyz says of Redis' policy: noted twice a second, so a moment after the metric."""
    policy: str | None = get(f"{url}/readyz")[1]["details"]["redis_may_drop_keys"]
    return policy

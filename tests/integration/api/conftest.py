"""Known tables in Redis and the pages being served over them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession

from streams.api.health import Health
from streams.config import Redis as RedisSection
from streams.config import Settings, Topic
from streams.tables.keys import alerts_key
from tests.integration.api.served import CAMPAIGNS, NOON, Pages, facts, incident, start
from tests.integration.conftest import client_of
from tests.integration.filling import Filled, fill


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """No broker is needed here."""
    return Settings(redis=RedisSection(url=redis_url, namespace="api", timeout=1.0))


@pytest.fixture
async def pages(settings: Settings) -> AsyncIterator[Pages]:
    async with client_of(settings.redis.url) as redis, ClientSession() as client:
        for (topic, partition), found in facts().items():
            await fill(redis, settings, Filled(topic, partition, found, record_time=NOON))
        await fill(redis, settings, Filled(Topic.CAMPAIGNS, 0, record_time=NOON, campaigns=CAMPAIGNS))
        stored = [incident("i-1", "resolved", 10), incident("i-2", "updated", 30), incident("i-3", "acknowledged", 20)]
        key = alerts_key(settings.redis.namespace, "incidents")
        await redis.hset(key, mapping={i["incident_id"]: json.dumps(i) for i in stored})
        health = [Health(True, True, {"lag": 0})]
        server = await start(settings, redis, lambda: health[0])
        yield Pages(server, settings, client, health)
        await server.stop()

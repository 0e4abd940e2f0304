"""Nothing that a person could be told by reaches Redis, the log or a page: neither as sent nor in base64."""

from __future__ import annotations

import asyncio
import base64
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from redis.asyncio import Redis

from streams.config import Topic
from streams.embedded import EmbeddedRedis
from streams.topics import create_topics
from tests.integration.conftest import Broker
from tests.integration.workers import applied, own_settings, send, worker

PERSONAL = {
    "user_id": "person-7731-zebra",
    "ip": "203.0.113.77",
    "user_agent": "Zebra-Browser/7731",
    "landing_page": "https://zebra.example/7731",
    "term": "zebra-term-7731",
}
WANTED = [form for value in PERSONAL.values() for form in (value.encode(), base64.b64encode(value.encode()).rstrip(b"="))]


def read(url: str) -> bytes:
    with urlopen(url, timeout=10) as answer:
        content: bytes = answer.read()
    return content


async def everything(redis: Redis) -> bytes:
    """All keys, and all that they hold, of whatever type."""
    client: Any = redis
    found: list[bytes] = []
    async for key in client.scan_iter():
        kind = await client.type(key)
        found.append(key)
        if kind == b"string":
            found.append(await client.get(key))
        elif kind == b"hash":
            found += [part for pair in (await client.hgetall(key)).items() for part in pair]
        elif kind == b"set":
            found += await client.smembers(key)
        elif kind == b"zset":
            found += await client.zrange(key, 0, -1)
        else:
            raise AssertionError(f"{key!r} is a {kind!r}, which this test cannot read")
    return b"\n".join(found)


async def test_no_personal_value_is_stored_logged_or_shown(broker: Broker, redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    settings = own_settings(broker, redis_server)
    await create_topics(settings)
    now = time.time_ns() // 1_000_000
    good = {"event_id": "e-1", "occurred_at": now, "campaign_id": "c", "channel": "search", "cost": "0.01", **PERSONAL}
    broken = {name: PERSONAL[name] + "\x00" for name in ("user_id", "ip", "user_agent")}
    bad = [good | {"event_id": f"bad-{name}", name: value} for name, value in broken.items()]
    with worker(settings, tmp_path) as one:
        await send(settings, Topic.CLICKS, [good, *bad, good | {"event_id": "bad-cost", "cost": "x"}])
        found = await applied(one.url, 5)
        assert found.total("applied") >= 1
        assert found.total("quarantined") >= 1
        async with Redis.from_url(settings.redis.url) as redis:
            stored = await everything(redis)
        pages = b""
        for page in ("/metrics", "/api/kpis?cube=campaign&window=1h", "/api/ledger", "/readyz"):
            pages += await asyncio.to_thread(read, one.url + page)
        said = one.said()
    assert b":reach:" in stored
    assert "privacy.user_key is the built-in one" in said
    assert settings.privacy.user_key.get_secret_value() not in said
    assert [form for form in WANTED if form in stored + pages + said.encode()] == []

"""Which of several tables is in use: a rebuild fills new ones beside those that are read, and then switches over.

A generation is a namespace: `cw` for the first, `cw~1`, `cw~2`, ... for those that were built later (no namespace of settings has a `~`).
One key for each topic prefix says which is read and written.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

from redis.asyncio import Redis

from streams.config import INPUT_TOPICS, Settings
from streams.tables.keys import AT_ONCE, PartitionKeys, batched, partitions_key
from streams.tables.store import PartitionStore

_SWITCH = "if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 0 end redis.call('SET', KEYS[1], ARGV[1]) return 1"


def generation_key(settings: Settings) -> str:
    """Number of the generation in use; absent for the first."""
    return f"{settings.redis.namespace}:{{{settings.kafka.topic_prefix}}}:generation"


def rebuild_key(settings: Settings) -> str:
    """Held by the rebuild that is running, if one is."""
    return f"{settings.redis.namespace}:{{{settings.kafka.topic_prefix}}}:rebuild"


def tables_namespace(namespace: str, generation: int) -> str:
    """The namespace of a generation's keys."""
    return f"{namespace}~{generation}" if generation else namespace


class PartitionTables:
    """The tables of one topic-partition, in the generation that is in use or in one that is given."""

    def __init__(self, redis: Redis, settings: Settings, topic: str, partition: int, *, generation: int | None = None) -> None:
        self.topic = topic
        self.partition = partition
        self._redis = redis
        self._settings = settings
        self._generation = generation

    async def open(self) -> tuple[int, PartitionStore]:
        """The generation, and its side of the partition. Redis errors pass through."""
        generation = self._generation
        if generation is None:
            generation = await generation_in_use(self._redis, self._settings)
        keys = PartitionKeys(tables_namespace(self._settings.redis.namespace, generation), self.topic, self.partition)
        return generation, PartitionStore(self._redis, keys, self._settings.all_cubes)


# Redis errors pass through all of these.


async def generation_in_use(redis: Redis, settings: Settings) -> int:
    """Number of the generation that is read and written, 0 for the first."""
    client: Any = redis
    return int(await client.get(generation_key(settings)) or 0)


async def switch_to(redis: Redis, settings: Settings, generation: int, token: str) -> bool:
    """Have every reader and worker use this generation; the workers come over as soon as they look, see `retire`.

    False, and nothing changed, when `token` does not hold the right to rebuild any more.
    """
    client: Any = redis
    return bool(await client.eval(_SWITCH, 2, generation_key(settings), rebuild_key(settings), generation, token))


async def retire(redis: Redis, settings: Settings, generation: int, partitions: Sequence[tuple[str, int]]) -> None:
    """Let nobody write a generation any more: its writers are fenced and look which one is in use. Partitions are (topic, number)."""
    for topic, number in partitions:
        keys = PartitionKeys(tables_namespace(settings.redis.namespace, generation), topic, number)
        await redis.hset(keys.meta(), mapping={"superseded": 1, "writer": "nobody"})


async def left_over(redis: Redis, settings: Settings) -> list[int]:
    """Generations that hold something and are not in use: an interrupted rebuild leaves one."""
    in_use = await generation_in_use(redis, settings)
    found = {generation async for generation, _ in _keys(redis, settings)}
    return sorted(found - {in_use})


class InUse(Exception):
    """The tables that were to be deleted are those in use."""


async def delete(redis: Redis, settings: Settings, generation: int) -> int:
    """Delete a generation's tables; returns how many keys went. Raises InUse, also half-way: Redis may come back from before a switch."""
    client: Any = redis
    together: dict[str, list[str]] = {}
    async for of, key in _keys(redis, settings):
        if of == generation:
            # Keys behind one tag are in one slot, so that one command may name them on a cluster too.
            together.setdefault(key[: key.index("}")], []).append(key)
    for keys in together.values():
        for some in batched(keys, AT_ONCE):
            if await generation_in_use(redis, settings) == generation:
                raise InUse
            await client.unlink(*some)
    listed = partitions_key(tables_namespace(settings.redis.namespace, generation))
    topics = {settings.topic(topic) for topic in INPUT_TOPICS}
    gone = [member for member in await client.smembers(listed) if member.decode().rpartition(":")[0] in topics]
    if gone:
        await client.srem(listed, *gone)
    return sum(map(len, together.values()))


async def _keys(redis: Redis, settings: Settings) -> AsyncIterator[tuple[int, str]]:
    """Every key of tables of this topic prefix, with its generation."""
    namespace = settings.redis.namespace
    topics = "|".join(re.escape(settings.topic(topic)) for topic in INPUT_TOPICS)
    wanted = re.compile(rf"{re.escape(namespace)}(?:~(\d+))?:\{{(?:{topics}):\d+\}}:")
    async for key in redis.scan_iter(match=f"{namespace}*", count=1_000):
        name = key.decode() if isinstance(key, bytes) else key
        if found := wanted.match(name):
            yield int(found[1] or 0), name

"""How many partitions each topic was known to have, kept beside the tables so that a change is noticed whoever looks."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from streams.config import Settings
from streams.tables.generations import generation_in_use, tables_namespace
from streams.tables.keys import PartitionKeys, partitions_key

#: KEYS[1] the hash topic -> partitions, topic#id -> the broker's id of it, and topic#before -> the one that it had before. ARGV: topic,
#: partitions and id as the broker says. Returns what was known before if that is news, else false. Whoever knows of the topic before, or of
#: fewer partitions, has asked earlier than others: a topic only ever grows.
_SWAP = """
local known, id, before = unpack(redis.call('HMGET', KEYS[1], ARGV[1], ARGV[1] .. '#id', ARGV[1] .. '#before'))
if before == ARGV[3] or (id == ARGV[3] and tonumber(known or '0') >= tonumber(ARGV[2])) then return false end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[1] .. '#id', ARGV[3])
if id and id ~= ARGV[3] then redis.call('HSET', KEYS[1], ARGV[1] .. '#before', id) end
return known
"""


class PartitionCounts:
    """The known numbers of partitions. Redis errors pass through."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis: Any = redis
        self._settings = settings
        self._swap = redis.register_script(_SWAP)

    async def swap(self, topic: str, partitions: int, topic_id: str) -> int | None:
        """Note how many there are; returns how many were known, None when none were or nothing is new.

        Of several who ask, one sees the old number. A topic that was made again, under another id, may have fewer than before.
        """
        known = await self._swap(keys=[f"{self._settings.redis.namespace}:partition_counts"], args=[topic, partitions, topic_id])
        return None if known is None else int(known)

    async def retire(self, topic: str, partitions: int) -> list[int]:
        """Mark the tables of partitions that a topic of so many has no more, so that they hold nobody's watermark; which they are."""
        namespace = tables_namespace(self._settings.redis.namespace, await generation_in_use(self._redis, self._settings))
        members = [member.decode().rpartition(":") for member in await self._redis.smembers(partitions_key(namespace))]
        gone = sorted(int(number) for name, _, number in members if name == topic and int(number) >= partitions)
        for number in gone:
            await self._redis.hset(PartitionKeys(namespace, topic, number).meta(), "retired", 1)
        return gone

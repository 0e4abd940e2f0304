"""Which of several tables is in use: a rebuild fills new ones beside those that are read, and then switches over.

A generation is a namespace: `cw` for the first, `cw~1`, `cw~2`, ... for those that were built later. One key says which is read and
written; what a namespace of settings may consist of has no `~`.
"""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis

from streams.config import Settings
from streams.tables.keys import PartitionKeys
from streams.tables.store import PartitionStore


def generation_key(namespace: str) -> str:
    """Number of the generation in use; absent for the first."""
    return f"{namespace}:generation"


def tables_namespace(namespace: str, generation: int) -> str:
    """The namespace of a generation's keys."""
    return f"{namespace}~{generation}" if generation else namespace


async def generation_in_use(redis: Redis, namespace: str) -> int:
    """Number of the generation that is read and written, 0 for the first. Redis errors pass through."""
    client: Any = redis
    return int(await client.get(generation_key(namespace)) or 0)


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
            generation = await generation_in_use(self._redis, self._settings.redis.namespace)
        keys = PartitionKeys(tables_namespace(self._settings.redis.namespace, generation), self.topic, self.partition)
        return generation, PartitionStore(self._redis, keys, self._settings.all_cubes)

"""Clusters of servers, whose nodes can be lost one at a time. No proxy stands before them: they tell their own addresses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.asyncio import Redis

from streams.config import Redis as RedisSettings
from streams.config import Settings
from streams.embedded import EmbeddedError, EmbeddedRedis, KafkaCluster, RedisCluster, Server
from streams.redis_client import connect
from tests.chaos.proxy import Proxy
from tests.chaos.sides import DURABLE_KAFKA, KAFKA_NODES, MORE_PARTITIONS, REDIS_NODES

#: Seconds until all copies of every partition are the same again.
_IN_SYNC_WITHIN = 60.0
_POLL = 0.3
_TRIES = 3


class ThreeKafkas:
    """Apache Kafka on three nodes, with three copies of each partition."""

    offers = frozenset({DURABLE_KAFKA, KAFKA_NODES, MORE_PARTITIONS})
    copies = 3
    proxy: Proxy | None = None

    def __init__(self, _directory: Path) -> None:
        self._cluster = KafkaCluster()
        self._started = False

    @property
    def brokers(self) -> Sequence[Server]:
        return self._cluster.nodes

    @property
    def bootstrap_servers(self) -> str:
        return self._cluster.bootstrap_servers

    @property
    def product_servers(self) -> str:
        return self._cluster.bootstrap_servers

    def start(self) -> None:
        for tries_left in reversed(range(_TRIES)):
            try:
                self._cluster.start()
                self._started = True
                return
            except EmbeddedError:
                # One of its ports was taken in the meantime; it chooses others, unless there is something that it must not lose.
                if self._started or not tries_left:
                    raise

    def wait_until_whole(self) -> None:
        asyncio.run(self._in_sync())

    async def _in_sync(self) -> None:
        deadline = time.monotonic() + _IN_SYNC_WITHIN
        while True:
            try:
                behind = await self._behind()
            except (KafkaError, OSError) as error:
                behind = [repr(error)]
            if not behind:
                return
            if time.monotonic() > deadline:
                raise EmbeddedError(f"Apache Kafka of {self.copies} nodes: not whole after {_IN_SYNC_WITHIN:.0f} s: {', '.join(behind)}")
            await asyncio.sleep(_POLL)

    async def _behind(self) -> list[str]:
        """Partitions with fewer copies in step than they have."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap_servers)
        await admin.start()
        try:
            return [
                f"{topic['topic']}:{partition['partition']}"
                for topic in await admin.describe_topics()
                for partition in topic["partitions"]
                if len(partition["isr"]) < len(partition["replicas"])
            ]
        finally:
            await admin.close()

    def close(self) -> None:
        self._cluster.close()


class SixRedises:
    """A Redis Cluster: three masters with a replica each, all with append-only files."""

    offers = frozenset({REDIS_NODES})
    proxy: Proxy | None = None

    def __init__(self, _directory: Path) -> None:
        self._cluster = RedisCluster(append_only="everysec", options=["--enable-debug-command", "yes"])
        self.cluster: RedisCluster | None = self._cluster
        self._started = False

    @property
    def nodes(self) -> Sequence[EmbeddedRedis]:
        return self._cluster.nodes

    @property
    def url(self) -> str:
        return self._cluster.url

    @property
    def product_url(self) -> str:
        return self._cluster.url

    def client(self) -> Redis:
        return connect(Settings(redis=RedisSettings(url=self.url, timeout=10.0)))

    def start(self) -> None:
        if self._started:
            with ThreadPoolExecutor(len(self.nodes)) as pool:
                list(pool.map(EmbeddedRedis.start, self.nodes))
        else:
            self._cluster.start()
            self._started = True

    def wait_until_whole(self) -> None:
        self._cluster.wait_until_healthy()
        self._cluster.wait_for_replicas()

    def close(self) -> None:
        self._cluster.close()

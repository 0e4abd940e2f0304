"""What the harness knows of the servers under the product: their nodes, to be hurt one at a time, and what faults they can suffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from redis.asyncio import Redis

from streams.embedded import EmbeddedRedis, RedisCluster, Server
from tests.chaos.proxy import Proxy

#: What a fault may need of the servers.
DURABLE_KAFKA, KAFKA_PROXY, KAFKA_NODES = "a broker that keeps its log", "a proxy before Kafka", "a Kafka of several nodes"
MORE_PARTITIONS = "a broker whose topics can get more partitions"
REDIS_FILE, REDIS_PROXY, REDIS_NODES = "one Redis whose file can be put back", "a proxy before Redis", "a Redis Cluster"


class Kafka(Protocol):
    """Where the log is."""

    #: Which of the above it offers.
    offers: frozenset[str]
    #: Before the workers; None where there is none.
    proxy: Proxy | None
    #: Of each partition.
    copies: int

    @property
    def brokers(self) -> Sequence[Server]:
        """Its nodes, to be hurt one at a time; node n of a cluster has the id n + 1."""

    @property
    def bootstrap_servers(self) -> str:
        """For the harness itself: nothing in between."""

    @property
    def product_servers(self) -> str:
        """For the product: through the proxy where there is one."""

    def start(self) -> None:
        """Start every node that does not run, and the proxy."""

    def wait_until_whole(self) -> None:
        """Return once nothing is left of what was done to it. Raises EmbeddedError when that takes too long."""

    def close(self) -> None:
        """End every node."""


class RedisSide(Protocol):
    """Where the tables are."""

    offers: frozenset[str]
    proxy: Proxy | None
    #: What knows masters from replicas; None for a single server.
    cluster: RedisCluster | None

    @property
    def nodes(self) -> Sequence[EmbeddedRedis]:
        """Its nodes, to be hurt one at a time."""

    @property
    def url(self) -> str:
        """For the harness itself."""

    @property
    def product_url(self) -> str:
        """For the product."""

    def client(self) -> Redis:
        """For the harness itself: sees all keys, and tries again when a connection was cut."""

    def start(self) -> None:
        """Start every node that does not run, and the proxy."""

    def wait_until_whole(self) -> None:
        """Return once nothing is left of what was done to it. Raises EmbeddedError when that takes too long."""

    def close(self) -> None:
        """End every node."""

"""The servers that are measured against, on loopback: one node of Apache Kafka and one Redis that keeps an append-only file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streams.config import Kafka, Redis, Settings, Streams
from streams.embedded import ApacheKafka, EmbeddedRedis

PARTITIONS = 4


@contextmanager
def servers() -> Iterator[tuple[ApacheKafka, EmbeddedRedis]]:
    """Both, running."""
    with ApacheKafka() as kafka, EmbeddedRedis(append_only="everysec") as redis:
        yield kafka, redis


def settings_for(kafka: ApacheKafka, redis: EmbeddedRedis, name: str, *, partitions: int = PARTITIONS) -> Settings:
    """Default settings for topics and tables of their own, called `name` (lower case letters, digits, dashes)."""
    return Settings(
        kafka=Kafka(bootstrap_servers=kafka.bootstrap_servers, topic_prefix=name, partitions=partitions, replication_factor=1),
        redis=Redis(url=redis.url, namespace=name),
        streams=Streams(http_port=0),
    )

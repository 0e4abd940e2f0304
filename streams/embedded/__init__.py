"""Backing services as child processes: for the demo, the tests and a developer's machine. Production brings its own."""

from streams.embedded.apache_kafka import ApacheKafka
from streams.embedded.broker import EmbeddedBroker
from streams.embedded.cluster import RedisCluster
from streams.embedded.process import EmbeddedError, Server
from streams.embedded.redis import EmbeddedRedis

__all__ = ["ApacheKafka", "EmbeddedBroker", "EmbeddedError", "EmbeddedRedis", "RedisCluster", "Server"]

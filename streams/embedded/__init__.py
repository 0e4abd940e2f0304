"""Backing services as child processes: for the demo, the tests and a developer's machine. Production brings its own."""

from streams.embedded.apache_kafka import ApacheKafka
from streams.embedded.apache_security import Security
from streams.embedded.broker import EmbeddedBroker
from streams.embedded.kafka_cluster import KafkaCluster
from streams.embedded.process import EmbeddedError, Server
from streams.embedded.redis import EmbeddedRedis
from streams.embedded.redis_cluster import RedisCluster

__all__ = ["ApacheKafka", "EmbeddedBroker", "EmbeddedError", "EmbeddedRedis", "KafkaCluster", "RedisCluster", "Security", "Server"]

"""Real servers for the integration tests, started once a session; a topic prefix and a Redis namespace of its own for each test."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis as Client

from alerts.demo.slack_stand_in import SlackStandIn
from streams.config import Alerts, Kafka, Redis, Settings, Streams
from streams.embedded import ApacheKafka, EmbeddedBroker, EmbeddedRedis, KafkaCluster, RedisCluster
from streams.redis_client import connect
from streams.topics import create_topics

Broker = EmbeddedBroker | ApacheKafka | KafkaCluster
RedisServer = EmbeddedRedis | RedisCluster
CreateTopics = Callable[[Settings], Awaitable[None]]

_HERE = Path(__file__).parent
_KAFKA: dict[str, type[Broker]] = {"embedded": EmbeddedBroker, "apache": ApacheKafka, "cluster": KafkaCluster}
KAFKA = _KAFKA[os.environ.get("CAMPAIGNWATCH_TEST_KAFKA", "embedded")]
APACHE = KAFKA is not EmbeddedBroker
#: Copies of each partition, one for each node.
COPIES = 3 if KAFKA is KafkaCluster else 1
#: Whether Redis is a cluster too.
CLUSTER = os.environ.get("CAMPAIGNWATCH_TEST_REDIS", "embedded") == "cluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever lies here needs servers; `-m "not integration"` leaves it out."""
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)
            if item.get_closest_marker("apache") and not APACHE:
                item.add_marker(pytest.mark.skip(reason="for Apache Kafka: set CAMPAIGNWATCH_TEST_KAFKA=apache (make test-apache)"))


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The broker of the session; CAMPAIGNWATCH_TEST_KAFKA: embedded, apache, or cluster (three nodes). Tests must not end it."""
    with KAFKA() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """The Redis of the session: one server, or a cluster with CAMPAIGNWATCH_TEST_REDIS=cluster. Tests must not end it; one that wants to
    kill a server starts its own."""
    with RedisCluster() if CLUSTER else EmbeddedRedis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of the session's Redis, emptied."""
    redis_server.flush()
    return redis_server.url


def client_of(url: str, *, timeout: float = 5.0) -> Client:
    """A client as Campaignwatch makes it, of a server or a cluster."""
    return connect(Settings(redis=Redis(url=url, timeout=timeout)))


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Client]:
    """A client of the session's Redis, emptied."""
    client = client_of(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def settings(broker: Broker, redis_url: str) -> Settings:
    """Settings for this test alone: its own topic prefix and namespace, free HTTP ports. The topics are not there yet."""
    unique = uuid.uuid4().hex[:8]
    return Settings(
        kafka=Kafka(
            bootstrap_servers=broker.bootstrap_servers,
            topic_prefix=f"t-{unique}",
            partitions=2,
            replication_factor=COPIES,
            session_timeout=6.0,
        ),
        redis=Redis(url=redis_url, namespace=f"t-{unique}"),
        streams=Streams(http_port=0),
        alerts=Alerts(http_port=0),
    )


@pytest.fixture
def make_topics() -> CreateTopics:
    """`await make_topics(settings)`: the topics of the contract, newly created."""

    async def make(settings: Settings) -> None:
        outcomes = await create_topics(settings)
        existed = [outcome.name for outcome in outcomes if not outcome.created]
        assert not existed, f"already there: {existed}"

    return make


@pytest.fixture
async def ready(settings: Settings, make_topics: CreateTopics) -> Settings:
    """`settings`, with its topics created."""
    await make_topics(settings)
    return settings


@pytest.fixture
async def one_partition(settings: Settings) -> Settings:
    """Topics of one partition each, so that offsets are numbers of records."""
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
    await create_topics(settings)
    return settings


@pytest.fixture
async def slack() -> AsyncIterator[SlackStandIn]:
    """Slack, as far as the tests can have it, without limits that a test would meet."""
    stand_in = SlackStandIn(rate=1_000, update_rate=1_000, burst=1_000)
    await stand_in.start()
    yield stand_in
    await stand_in.stop()

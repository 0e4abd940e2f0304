"""A cluster of three nodes loses one, the one that matters most, while everything goes on: nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis, KafkaCluster
from streams.kafka import connection, consumer_group
from streams.topics import create_topics
from tests.integration.test_workers import Clicks
from tests.integration.workers import applied, ledger, own_settings, until, worker

pytestmark = pytest.mark.apache

#: Seconds within which records written after a node's death are in the tables: the cluster notices it after two, its leaders and the
#: group's coordinator move, and clients ask for them anew; on two busy cores.
BACK_WITHIN = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    with KafkaCluster() as three:
        yield three


@pytest.fixture
async def settings(cluster: KafkaCluster, redis_server: EmbeddedRedis) -> Settings:
    found = own_settings(cluster, redis_server)
    found = found.model_copy(update={"kafka": found.kafka.model_copy(update={"replication_factor": 3})})
    await create_topics(found)
    return found


async def important(settings: Settings, what: str) -> int:
    """Which node is the group's coordinator, or leads a partition of the clicks."""
    admin = AIOKafkaAdminClient(**connection(settings.kafka))
    await admin.start()
    try:
        if what == "coordinator":
            return int(await admin.find_coordinator(consumer_group(settings))) - 1
        (topic,) = await admin.describe_topics([settings.topic(Topic.CLICKS)])
        return int(topic["partitions"][0]["leader"]) - 1
    finally:
        await admin.close()


async def in_sync(settings: Settings) -> bool:
    """Whether each partition has all its three copies."""
    admin = AIOKafkaAdminClient(**connection(settings.kafka))
    await admin.start()
    try:
        topics = await admin.describe_topics([settings.topic(topic) for topic in Topic])
        return all(len(partition["isr"]) == 3 for topic in topics for partition in topic["partitions"])
    finally:
        await admin.close()


async def test_topics_have_three_copies_of_which_two_must_be_written(settings: Settings) -> None:
    assert await in_sync(settings)
    admin = AIOKafkaAdminClient(**connection(settings.kafka))
    await admin.start()
    names = [settings.topic(topic) for topic in Topic]
    answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    await admin.close()
    found = {name: dict(entry[:2] for entry in entries) for answer in answers for _, _, _, name, entries in answer.resources}
    assert {name: found[name]["min.insync.replicas"] for name in names} == dict.fromkeys(names, "2")


@pytest.mark.parametrize("what", ["coordinator", "leader"])
async def test_a_node_goes_and_comes_back(cluster: KafkaCluster, settings: Settings, tmp_path: Path, what: str) -> None:
    clicks = Clicks(settings)
    with worker(settings, tmp_path) as one, worker(settings, tmp_path) as two:
        async with clicks.going_on():
            await until(lambda: ledger(one.url), lambda found: found.total("applied") > 300)
            node = await important(settings, what)
            await asyncio.to_thread(cluster.kill, node)
            before = clicks.sent
            # All that counts is what was sent after the node went: it takes new leaders to write it, and a coordinator to read it.
            await until(lambda: clicks.sent, lambda sent: sent > before + 500, timeout=BACK_WITHIN)
            wanted = clicks.sent
            await until(lambda: ledger(two.url), lambda found: found.total("in") >= wanted, timeout=BACK_WITHIN)

            await asyncio.to_thread(cluster.start, node)
            async with asyncio.timeout(BACK_WITHIN):
                while not await in_sync(settings):
                    await asyncio.sleep(0.2)
        await clicks.all_counted_once(one.url)
        assert (await applied(two.url, clicks.sent)).balanced
        assert (one.process.poll(), two.process.poll()) == (None, None)
        assert (one.stop(), two.stop()) == (0, 0)

"""`campaignwatch topics create` and the checks before a start, against a real broker and a real Redis."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from streams import topics
from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis
from streams.embedded.ports import free_port
from streams.errors import UserError
from streams.preflight import PreflightError, check_kafka, check_redis
from streams.quarantine.record import LARGEST_RECORD
from tests.integration.conftest import COPIES, CreateTopics


async def _write_and_read(settings: Settings, topic: Topic, value: bytes, timestamp_ms: int | None = None) -> ConsumerRecord:
    servers = settings.kafka.bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=LARGEST_RECORD) as producer:
        sent = await producer.send_and_wait(settings.topic(topic), value, partition=0, timestamp_ms=timestamp_ms)
    async with AIOKafkaConsumer(bootstrap_servers=servers, max_partition_fetch_bytes=LARGEST_RECORD) as consumer:
        place = TopicPartition(sent.topic, 0)
        consumer.assign([place])
        consumer.seek(place, sent.offset)
        return await consumer.getone()


async def test_creates_every_topic_of_the_contract(settings: Settings) -> None:
    outcomes = await topics.create_topics(settings)

    prefix = settings.kafka.topic_prefix
    assert [(outcome.name, outcome.partitions, outcome.created) for outcome in outcomes] == [
        (f"{prefix}.clicks", 2, True),
        (f"{prefix}.conversions", 2, True),
        (f"{prefix}.engagements", 2, True),
        (f"{prefix}.spend", 2, True),
        (f"{prefix}.campaigns", 2, True),
        (f"{prefix}.quarantine", 1, True),
        (f"{prefix}.alerts", 1, True),
    ]
    assert await check_kafka(settings) == {
        Topic.CLICKS: 2,
        Topic.CONVERSIONS: 2,
        Topic.ENGAGEMENTS: 2,
        Topic.SPEND: 2,
        Topic.CAMPAIGNS: 2,
        Topic.QUARANTINE: 1,
        Topic.ALERTS: 1,
    }


async def test_a_second_run_changes_nothing_and_says_so(settings: Settings) -> None:
    await topics.create_topics(settings)

    again = await topics.create_topics(settings)

    assert [outcome.created for outcome in again] == [False] * len(Topic)
    assert [outcome.differences for outcome in again] == [()] * len(Topic)


async def test_two_runs_at_once_create_each_topic_once(settings: Settings) -> None:
    one, two = await asyncio.gather(topics.create_topics(settings), topics.create_topics(settings))

    for first, second in zip(one, two, strict=True):
        assert first.created + second.created == 1
        assert first.differences == second.differences == ()


async def test_other_partition_counts_are_reported_and_left_alone(settings: Settings) -> None:
    await topics.create_topics(settings)
    more = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 6, "retention_hours": 1})})

    clicks = (await topics.create_topics(more))[0]

    assert clicks.partitions == 2
    assert clicks.differences == (
        "has 2 partitions, campaignwatch wants 6",
        "has retention.ms=604800000, campaignwatch wants 3600000",
    )
    assert (await check_kafka(settings))[Topic.CLICKS] == 2


async def test_quarantine_holds_a_whole_mebibyte(ready: Settings) -> None:
    whole = base64.b64encode(bytes(1_048_576))

    record = await _write_and_read(ready, Topic.QUARANTINE, whole)

    assert record.value == whole


@pytest.mark.apache  # the embedded broker keeps the producer's time whatever the topic says
async def test_records_carry_the_brokers_time(ready: Settings) -> None:
    before = int(time.time() * 1000)

    record = await _write_and_read(ready, Topic.CLICKS, b"{}", timestamp_ms=1_000)

    assert before - 1_000 <= record.timestamp <= time.time() * 1000 + 1_000


@pytest.mark.apache  # the embedded broker takes any replication factor
async def test_a_replication_factor_beyond_the_brokers_is_explained(settings: Settings) -> None:
    many = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"replication_factor": COPIES + 1})})

    with pytest.raises(topics.TopicsError, match=r"refuses to create it.*set kafka\.replication_factor to at most the number of brokers"):
        await topics.create_topics(many)


async def test_missing_topics_are_named_with_the_next_step(settings: Settings, make_topics: CreateTopics) -> None:
    with pytest.raises(PreflightError, match=rf"no topic {settings.kafka.topic_prefix}\.clicks, .*; run `campaignwatch topics create`"):
        await check_kafka(settings)

    # Looking for a topic must not have brought it into being.
    await make_topics(settings)


async def test_a_broker_that_is_away_is_said_in_a_sentence(settings: Settings) -> None:
    away = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"})})

    with pytest.raises(PreflightError, match=r"Kafka cannot be reached at 127\.0\.0\.1:\d+: .*; start the broker, or set kafka\."):
        await check_kafka(away)
    with pytest.raises(topics.TopicsError, match=r"start the broker, or set kafka\.bootstrap_servers"):
        await topics.create_topics(away)


async def test_redis_is_checked_for_presence_login_role_and_eviction(settings: Settings) -> None:
    def at(url: str) -> Settings:
        return settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": url})})

    await check_redis(settings)
    with pytest.raises(PreflightError, match=r"Redis cannot be reached at redis://127\.0\.0\.1:\d+/0 .*set redis\.url"):
        await check_redis(at(f"redis://127.0.0.1:{free_port()}/0"))
    with pytest.raises(UserError, match=r"is not a Redis URL"):
        await check_redis(at("http://127.0.0.1:1"))
    with (
        EmbeddedRedis(options=["--maxmemory-policy", "allkeys-lru"]) as forgetful,
        pytest.raises(PreflightError, match=r"maxmemory-policy allkeys-lru.*set maxmemory-policy to noeviction"),
    ):
        await check_redis(at(forgetful.url))
    with EmbeddedRedis() as locked:
        with redis.Redis.from_url(locked.url) as client:
            client.config_set("requirepass", "right")
        with pytest.raises(PreflightError, match=r"redis://\*\*\*@127\.0\.0\.1:\d+/0 refuses the login") as refused:
            await check_redis(at(locked.url.replace("//", "//:wrong@")))
        assert "wrong@" not in str(refused.value)
        with pytest.raises(PreflightError, match="refuses the login"):
            await check_redis(at(locked.url))
    primary = settings.redis.url.split(":")[-1].split("/")[0]
    with (
        EmbeddedRedis(options=["--replicaof", f"127.0.0.1 {primary}"]) as replica,
        pytest.raises(PreflightError, match=r"is a replica and cannot be written to"),
    ):
        await check_redis(at(replica.url))


def test_the_command_creates_reports_and_fails_in_words(settings: Settings, tmp_path: Path) -> None:
    config = tmp_path / "campaignwatch.yaml"
    config.write_text(
        f"kafka: {{bootstrap_servers: '{settings.kafka.bootstrap_servers}', topic_prefix: {settings.kafka.topic_prefix}, partitions: 3}}"
    )

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "alerts.cli", "topics", "create", "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment})

    first, second = run(), run(CAMPAIGNWATCH_KAFKA__PARTITIONS="4")
    away = run(CAMPAIGNWATCH_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{free_port()}")

    name = f"{settings.kafka.topic_prefix}.clicks"
    assert (first.returncode, first.stdout.splitlines()[0]) == (0, f"{name}: created, 3 partitions")
    assert second.returncode == 0
    assert second.stdout.splitlines()[:2] == [
        f"{name}: already there, 3 partitions",
        f"{name}: has 3 partitions, campaignwatch wants 4; left as it is",
    ]
    assert away.returncode == 2
    assert "start the broker" in away.stderr
    assert "Traceback" not in away.stderr

"""`campaignwatch doctor` on the real thing: a healthy installation is found well, and each kind of trouble with its next step."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams.config import Redis as RedisSettings
from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis, ports
from streams.kafka import consumer_group
from streams.tables.keys import PartitionKeys
from streams.topics import create_topics
from tests.integration.conftest import CLUSTER, client_of
from tests.integration.processes import run, running, settings_file
from tests.integration.test_breaks import admin_of, clicks, make_again
from tests.integration.test_redis_secure import PASSWORD, documented_rules
from tests.integration.workers import Worker, applied, get, send, until, worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SECRET = "a-secret-that-nobody-may-see"


@dataclass(frozen=True)
class Told:
    """What a run of the doctor said."""

    status: int
    failures: tuple[tuple[str, str, str], ...]
    warnings: tuple[tuple[str, str, str], ...]
    fine: tuple[tuple[str, str, str], ...]

    def failure(self, what: str) -> tuple[str, str]:
        return self._one(self.failures, what)

    def warning(self, what: str) -> tuple[str, str]:
        return self._one(self.warnings, what)

    @staticmethod
    def _one(found: tuple[tuple[str, str, str], ...], what: str) -> tuple[str, str]:
        """Detail and next step of the one finding on `what`."""
        matching = [(detail, do) for name, detail, do in found if name == what]
        assert len(matching) == 1, f"{what}: {found}"
        return matching[0]


def doctor(settings: Settings, directory: Path, *words: str) -> Told:
    done = run(settings_file(directory, settings), "doctor", "--json", "--timeout", "5", *words)
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == done.returncode
    levels = {
        level: tuple((f["what"], f["detail"], f["do"]) for f in document["findings"] if f["level"] == level)
        for level in ("failure", "warning", "ok")
    }
    assert all(do for _, _, do in (*levels["failure"], *levels["warning"])), "each says what to do"
    assert "Traceback" not in done.stderr
    return Told(done.returncode, levels["failure"], levels["warning"], levels["ok"])


@contextmanager
def alerts(settings: Settings, directory: Path) -> Iterator[None]:
    with running(settings_file(directory, settings), directory / "alerts.log", "alerts", cwd=directory):
        yield


def names(found: tuple[tuple[str, str, str], ...]) -> set[str]:
    return {what for what, _, _ in found}


@pytest.fixture
async def one_partition(settings: Settings) -> Settings:
    settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
    await create_topics(settings)
    return settings


@pytest.fixture
def durable(one_partition: Settings) -> Iterator[Settings]:
    """Settings with a Redis of their own that keeps what it is given."""
    with EmbeddedRedis(append_only="everysec") as server:
        yield on(one_partition, server)


def on(settings: Settings, server: EmbeddedRedis, timeout: float = 2.0) -> Settings:
    return settings.model_copy(update={"redis": RedisSettings(url=server.url, namespace=settings.redis.namespace, timeout=timeout)})


async def _counted(settings: Settings, one: Worker, records: int = 100) -> None:
    await send(settings, Topic.CLICKS, clicks(0, records))
    await applied(one.url, records)


async def test_a_healthy_installation_has_no_failures(durable: Settings, tmp_path: Path) -> None:
    with worker(durable, tmp_path) as one, alerts(durable, tmp_path):
        await _counted(durable, one)

        def look() -> Told:
            return doctor(durable, tmp_path)

        # Every partition is noted as read to its end within idle_timeout, and the alerts process takes its lease.
        told = await until(look, lambda found: found.status == 0 and "watermark" in names(found.fine), timeout=60)
        assert told.failures == ()
        assert names(told.warnings) <= {"privacy key", "receivers", "kafka replicas"}
        assert {
            "kafka",
            "topics",
            "log",
            "workers",
            "lag",
            "owners",
            "group offsets",
            "redis",
            "redis eviction",
            "redis persistence",
        } <= names(told.fine)
        assert {"form of the tables", "generations", "ledger", "ladder", "watermark", "breaks", "alerts lease", "outbox"} <= names(
            told.fine
        )
        assert "100 records in" in next(detail for what, detail, _ in told.fine if what == "ledger")
        shown = run(settings_file(tmp_path, durable), "doctor")
        assert shown.returncode == 0, shown.stdout + shown.stderr
        assert "0 failures" in shown.stdout
        assert "privacy key" in shown.stdout


async def test_nothing_runs_yet(one_partition: Settings, tmp_path: Path) -> None:
    """Right after `topics create`: nothing is broken, and it says what to start."""
    told = doctor(one_partition, tmp_path)
    assert "campaignwatch streams" in told.warning("workers")[1]
    assert "campaignwatch streams" in told.warning("tables")[1]
    assert "campaignwatch alerts" in told.failure("alerts lease")[1]
    assert told.status == 1
    await send(one_partition, Topic.CLICKS, clicks(0, 25))
    told = doctor(one_partition, tmp_path)
    assert "25 records wait" in told.failure("workers")[0]
    assert told.failure("lag")[0].startswith("25 records wait in 1 partitions")


async def test_topics_that_are_missing(settings: Settings, tmp_path: Path) -> None:
    told = doctor(settings, tmp_path)
    for topic in Topic:
        assert told.failure(f"topic {settings.topic(topic)}") == ("there is no such topic", "campaignwatch topics create")


async def test_a_topic_that_differs_from_the_plan(one_partition: Settings, tmp_path: Path) -> None:
    wanted = one_partition.model_copy(update={"kafka": one_partition.kafka.model_copy(update={"partitions": 3})})
    detail, _ = doctor(wanted, tmp_path).warning(f"topic {wanted.topic(Topic.CLICKS)}")
    assert "has 1 partitions, campaignwatch wants 3" in detail


async def test_a_topic_made_again_that_no_worker_has_noticed(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        assert one.stop() == 0
    await make_again(one_partition)
    detail, do = doctor(one_partition, tmp_path).failure(f"log of {one_partition.topic(Topic.CLICKS)}:0")
    assert "deleted and made again after offset 99" in detail
    assert "campaignwatch rebuild" in do
    with worker(one_partition, tmp_path) as two:
        await send(one_partition, Topic.CLICKS, clicks(1_000, 5))
        await until(lambda: get(f"{two.url}/api/ledger")[1], lambda page: any(e["in"] == 5 for e in page["partitions"]))
        told = doctor(one_partition, tmp_path)
        detail, do = told.warning("break topic_recreated")
        assert "100 records" in detail or "offset 99" in detail
        assert "campaignwatch rebuild" in do
        assert not any(what.startswith("log of") for what in names(told.failures))


@pytest.mark.apache
async def test_records_that_went_before_anybody_read_them(one_partition: Settings, tmp_path: Path) -> None:
    partition = TopicPartition(one_partition.topic(Topic.CLICKS), 0)
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        assert one.stop() == 0
    await send(one_partition, Topic.CLICKS, clicks(100, 100))
    async with admin_of(one_partition) as admin:
        await admin.delete_records({partition: RecordsToDelete(before_offset=150)})
    detail, do = doctor(one_partition, tmp_path).failure(f"log of {partition.topic}:0")
    assert "50 records went before" in detail
    assert "retention.ms" in do
    with worker(one_partition, tmp_path) as two:
        await applied(two.url, 150)
        assert "retention.ms" in doctor(one_partition, tmp_path).warning("break records_gone")[1]


async def test_offsets_of_the_group_that_somebody_set_back(one_partition: Settings, tmp_path: Path) -> None:
    topic = TopicPartition(one_partition.topic(Topic.CLICKS), 0)
    for first, count in ((0, 100), (100, 10)):
        # The first stop commits; the tables learn of it with the next records.
        with worker(one_partition, tmp_path) as one:
            await send(one_partition, Topic.CLICKS, clicks(first, count))
            await applied(one.url, first + count)
            assert one.stop() == 0
    await commit(one_partition, topic, 0)
    detail, do = doctor(one_partition, tmp_path).warning("group offsets")
    assert "to 0" in detail and "nothing is read twice" in detail
    assert "campaignwatch rebuild" in do
    await commit(one_partition, topic, 100_000)
    assert "ahead of the tables" in doctor(one_partition, tmp_path).warning("group offsets")[0]


async def commit(settings: Settings, partition: TopicPartition, offset: int) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap_servers, group_id=consumer_group(settings), enable_auto_commit=False
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.commit({partition: offset})
    finally:
        await consumer.stop()


async def test_a_worker_that_stands_still_while_records_wait(one_partition: Settings, tmp_path: Path) -> None:
    impatient = one_partition.model_copy(
        update={"streams": one_partition.streams.model_copy(update={"stuck_after": 1.0, "idle_timeout": 1.0})}
    )
    with worker(impatient, tmp_path) as one:
        await _counted(impatient, one)
        one.pause()
        await send(impatient, Topic.CLICKS, clicks(100, 30))
        told = await until(lambda: doctor(impatient, tmp_path), lambda found: "lag" in names(found.failures), timeout=60)
        detail, do = told.failure("lag")
        assert "30 records wait" in detail
        assert "/healthz" in do or "campaignwatch streams" in do


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_redis_that_may_drop_keys_and_keeps_nothing(one_partition: Settings, tmp_path: Path, policy: str) -> None:
    with EmbeddedRedis(options=["--maxmemory-policy", policy]) as server:
        told = doctor(on(one_partition, server), tmp_path)
    detail, do = told.failure("redis eviction")
    assert policy in detail and "noeviction" in do
    detail, do = told.warning("redis persistence")
    assert "incidents" in detail and "appendonly yes" in do


async def test_a_redis_without_room(one_partition: Settings, tmp_path: Path) -> None:
    with EmbeddedRedis(append_only="no") as server:
        async with client_of(server.url) as redis:
            used = (await redis.info("memory"))["used_memory"]
            await redis.config_set("maxmemory", int(used * 1.02))
        told = doctor(on(one_partition, server), tmp_path)
    detail, do = told.failure("redis memory")
    assert "maxmemory" in detail and "raise maxmemory" in do


async def test_redis_away_does_not_hide_what_kafka_says(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"redis": RedisSettings(url=f"redis://127.0.0.1:{ports.free_port()}/0", timeout=1.0)})
    told = doctor(away, tmp_path)
    assert told.status == 1
    assert "redis.url" in told.failure("redis")[1]
    assert told.failure(f"topic {away.topic(Topic.CLICKS)}")[1] == "campaignwatch topics create"
    assert {"tables", "alerts lease"} <= names(told.warnings)


async def test_a_wrong_password_is_named_and_never_shown(one_partition: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "REDIS__PASSWORD": SECRET,
        "PRIVACY__USER_KEY": f"{SECRET}-2",
        "HTTP__TOKEN": f"{SECRET}-3",
        "SLACK__BOT_TOKEN": f"{SECRET}-4",
    }
    with EmbeddedRedis() as server:
        async with client_of(server.url) as redis:
            await redis.config_set("requirepass", "another")
        for name, secret in secrets.items():
            monkeypatch.setenv(f"CAMPAIGNWATCH_{name}", secret)
        config = settings_file(tmp_path, on(one_partition, server))
        shown = [run(config, "doctor", *words) for words in (("--json",), ("--all",))]
    for done in shown:
        assert done.returncode == 1
        assert "refuses the login" in done.stdout
        assert SECRET not in done.stdout + done.stderr
        assert "another" not in done.stdout + done.stderr


@pytest.mark.skipif(CLUSTER, reason="one server with a user of its own")
async def test_the_documented_rights_are_enough_to_look(one_partition: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmbeddedRedis(append_only="everysec") as server:
        limited = on(one_partition, server)
        async with client_of(server.url) as redis:
            client: Any = redis
            await client.execute_command("ACL", "SETUSER", "monitor", *documented_rules(limited.redis.namespace))
        with worker(limited, tmp_path) as one, alerts(limited, tmp_path):
            await _counted(limited, one)
            monkeypatch.setenv("CAMPAIGNWATCH_REDIS__USERNAME", "monitor")
            monkeypatch.setenv("CAMPAIGNWATCH_REDIS__PASSWORD", PASSWORD)
            told = await until(lambda: doctor(limited, tmp_path), lambda found: found.status == 0, timeout=60)
    assert not [detail for _, detail, _ in told.warnings if "could not be looked at" in detail]
    assert "for another" in next(detail for what, detail, _ in told.fine if what == "alerts lease")


async def test_a_cube_that_the_workers_do_not_know(one_partition: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        monkeypatch.setenv("CAMPAIGNWATCH_CUBES", '{"keyword": ["campaign_id", "keyword"]}')
        detail, do = doctor(one_partition, tmp_path).warning("cubes")
    assert "keyword" in detail
    assert "campaignwatch rebuild" in do


async def test_kafka_away_does_not_hide_what_redis_says(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
    away = one_partition.model_copy(
        update={"kafka": one_partition.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{ports.free_port()}"})}
    )
    told = doctor(away, tmp_path)
    assert told.status == 1
    detail, do = told.failure("kafka")
    assert "Connect call failed" in detail or "refused" in detail
    assert "kafka.bootstrap_servers" in do
    # Of a cluster it says so of every node.
    assert {"ledger", "redis eviction"} <= {name.partition(" at ")[0] for name in names(told.fine)}
    assert "campaignwatch alerts" in told.failure("alerts lease")[1]


async def test_both_away_is_status_2(tmp_path: Path) -> None:
    nothing = Settings()
    nothing = nothing.model_copy(
        update={
            "kafka": nothing.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{ports.free_port()}"}),
            "redis": RedisSettings(url=f"redis://127.0.0.1:{ports.free_port()}/0", timeout=1.0),
        }
    )
    told = doctor(nothing, tmp_path)
    assert told.status == 2
    assert {"kafka", "redis"} <= names(told.failures)
    assert {"privacy key", "receivers"} <= names(told.warnings)


async def test_a_redis_that_hangs_is_given_up(one_partition: Settings, tmp_path: Path) -> None:
    with EmbeddedRedis() as server:
        server.pause()
        try:
            began = time.monotonic()
            done = run(settings_file(tmp_path, on(one_partition, server)), "doctor", "--json", "--timeout", "1", timeout=60)
            assert time.monotonic() - began < 40
        finally:
            server.resume()
    assert done.returncode == 1
    assert any(f["what"] == "redis" and f["level"] == "failure" for f in json.loads(done.stdout)["findings"])


async def test_tables_of_another_form_another_ladder_and_unused_generations(one_partition: Settings, tmp_path: Path) -> None:
    namespace, topic = one_partition.redis.namespace, one_partition.topic(Topic.CLICKS)
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        assert one.stop() == 0
    keys = PartitionKeys(namespace, topic, 0)
    async with client_of(one_partition.redis.url) as redis:
        await redis.hset(keys.meta(), "format", 99)
        await redis.zadd(keys.panes(), {"7:0": 1})
        await redis.sadd(f"{namespace}~2:partitions", f"{topic}:0")
        told = doctor(one_partition, tmp_path)
        assert "a newer version wrote them" in told.failure("form of the tables")[0]
        assert "7 s" in told.warning("ladder")[0]
        detail, do = told.warning("generations")
        assert f"{namespace}~2" in detail and "campaignwatch rebuild" in do
        await redis.hset(keys.meta(), mapping={"format": 0, "read": 101})
        told = doctor(one_partition, tmp_path)
        assert "cannot read" in told.failure("form of the tables")[0]
        assert "in 101, accounted for 100" in told.failure("ledger")[0]


async def test_what_a_rebuild_leaves_is_told_and_gone_after_the_next(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        config = settings_file(tmp_path, one_partition)
        assert run(config, "rebuild", "--keep-old", "--grace", "0").returncode == 0
        detail, _ = doctor(one_partition, tmp_path).warning("generations")
        assert f"{one_partition.redis.namespace}~1 is in use" in detail
        assert run(config, "rebuild", "--grace", "0").returncode == 0
        told = doctor(one_partition, tmp_path)
        assert next(detail for what, detail, _ in told.fine if what == "generations").endswith("nothing is left over")


async def test_partitions_that_kafka_has_no_more(one_partition: Settings, tmp_path: Path) -> None:
    namespace, topic = one_partition.redis.namespace, one_partition.topic(Topic.CLICKS)
    with worker(one_partition, tmp_path) as one:
        await _counted(one_partition, one)
        assert one.stop() == 0
    async with client_of(one_partition.redis.url) as redis:
        await redis.sadd(f"{namespace}:partitions", f"{topic}:5")
        detail, do = doctor(one_partition, tmp_path).warning("partitions")
    assert f"no partition {topic}:5 any more" in detail and "hold the watermark" in detail
    assert "campaignwatch rebuild" in do


async def test_many_refused_records(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, [*clicks(0, 50), *(b"no json" for _ in range(10))])
        await applied(one.url, 60)
        detail, do = doctor(one_partition, tmp_path).warning("quarantine")
    assert "10 of 60 records" in detail
    assert "campaignwatch quarantine list" in do


async def test_messages_that_nobody_delivers(one_partition: Settings, tmp_path: Path) -> None:
    async with client_of(one_partition.redis.url) as redis:
        outbox = f"{one_partition.redis.namespace}:{{alerts}}:outbox"
        await redis.set(f"{one_partition.redis.namespace}:{{alerts}}:cursor:kafka", "1-0")
        await redis.xadd(outbox, {"change": "{}"}, id=f"{int(time.time() * 1000) - 3_600_000}-0")
        detail, do = doctor(one_partition, tmp_path).failure("messages to kafka")
    assert "1 wait, the oldest for 60 min" in detail
    assert "Messages wait" in do

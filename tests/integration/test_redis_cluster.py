"""Campaignwatch on a Redis Cluster whose masters die: nothing is lost or doubled, and alerts go on."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from alerts.app.lease import Lease
from alerts.incidents.store import IncidentStore
from alerts.notify.outbox import Outbox
from streams.config import Redis as RedisSettings
from streams.config import Settings, Topic
from streams.embedded import EmbeddedRedis, RedisCluster
from streams.preflight import PreflightError, check_redis
from streams.redis_client import connect
from streams.tables.generations import PartitionTables
from streams.tables.keys import Command, PartitionKeys, alerts_key
from tests.integration.processes import running, settings_file
from tests.integration.test_alerts_leader import opened, step_of
from tests.integration.test_redis_secure import PASSWORD, documented_rules, documented_rules_of_a_cluster
from tests.integration.test_workers import MOVED_WITHIN, Clicks, scraped
from tests.integration.workers import Worker, applied, get, ledger, until, worker

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    with RedisCluster() as servers:
        yield servers


@pytest.fixture
def on_cluster(ready: Settings, cluster: RedisCluster) -> Settings:
    """Settings whose tables are on a cluster of this test's own."""
    return ready.model_copy(update={"redis": RedisSettings(url=cluster.url, namespace=ready.redis.namespace, timeout=1.0)})


@asynccontextmanager
async def client(settings: Settings) -> AsyncIterator[Redis]:
    made = connect(settings)
    try:
        yield made
    finally:
        await made.aclose()


def master_of_clicks(cluster: RedisCluster, settings: Settings) -> EmbeddedRedis:
    """The master that holds the first partition of the clicks."""
    return cluster.master_of(PartitionKeys(settings.redis.namespace, settings.topic(Topic.CLICKS), 0).meta())


def fenced(url: str) -> float:
    return scraped(url).get(("campaignwatch_fenced_total", ()), 0)


def no_surprises(*workers: Worker) -> None:
    """Whatever the client raised was known to mean that Redis is away."""
    for one in workers:
        assert scraped(one.url)["campaignwatch_flush_failures_total", ()] == 0
        assert "Traceback" not in one.said()


async def test_masters_that_die_one_after_the_other_lose_nothing(on_cluster: Settings, cluster: RedisCluster, tmp_path: Path) -> None:
    clicks = Clicks(on_cluster)
    with worker(on_cluster, tmp_path) as one, worker(on_cluster, tmp_path) as two:
        async with clicks.going_on():
            await applied(one.url, 200)
            for number in (0, 1):
                killed = await asyncio.to_thread(cluster.kill_master, number)
                await asyncio.to_thread(cluster.wait_until_healthy)
                before = (await until(lambda: ledger(two.url), timeout=MOVED_WITHIN)).total("in")
                await applied(two.url, before + 200, timeout=MOVED_WITHIN)
                await asyncio.to_thread(killed.start)
                await asyncio.to_thread(cluster.wait_for_replicas)
        await clicks.all_counted_once(one.url)
        no_surprises(one, two)


async def test_what_a_replica_that_was_behind_does_not_know_is_read_again(
    on_cluster: Settings, cluster: RedisCluster, tmp_path: Path
) -> None:
    clicks = Clicks(on_cluster)
    with worker(on_cluster, tmp_path) as one, worker(on_cluster, tmp_path) as two:
        async with clicks.going_on():
            await applied(one.url, 200)
            master = master_of_clicks(cluster, on_cluster)
            replica = await asyncio.to_thread(cluster.replica_of, master)
            before = fenced(one.url) + fenced(two.url)
            replica.pause()
            with cluster.client(master) as direct:
                # Or the system would keep for the paused replica what its master goes on to send.
                direct.execute_command("CLIENT KILL TYPE replica")
            await applied(one.url, ledger(one.url).total("in") + 500)
            master.kill()
            replica.resume()
            await asyncio.to_thread(cluster.wait_until_healthy)
            assert master_of_clicks(cluster, on_cluster) is replica
            await until(lambda: fenced(one.url) + fenced(two.url), lambda count: count > before, timeout=MOVED_WITHIN)
            await asyncio.to_thread(master.start)
        await clicks.all_counted_once(two.url)
        no_surprises(one, two)


async def test_a_flush_is_whole_or_not_at_all_while_its_slot_moves_to_another_master(on_cluster: Settings, cluster: RedisCluster) -> None:
    """Redis refuses a key that is on its way, and takes nothing back of what the script did before; an operator may move slots any time."""
    source = master_of_clicks(cluster, on_cluster)
    target = next(master for master in cluster.masters() if master is not source)
    async with client(on_cluster) as redis:
        tables = PartitionTables(redis, on_cluster, on_cluster.topic(Topic.CLICKS), 0)
        _, store = await tables.open()
        meta = await store.claim(0, 1)
        log, new = store.keys.rows("campaign", 20_000), store.keys.rows("campaign", 20_001)
        first, second = (replace(meta, applied_offset=offset) for offset in (0, 1))
        await store.apply(-1, first, [("APPEND", log, b"a")])
        flush: list[Command] = [
            ("APPEND", log, b"b"),
            ("APPEND", new, b"c"),
            ("UNLINK", store.keys.rows("campaign", 1), store.keys.rows("campaign", 2)),
        ]
        with cluster.client(source) as here, cluster.client(target) as there:
            slot = here.execute_command("CLUSTER KEYSLOT", log)
            ids = {node: node.execute_command("CLUSTER MYID") for node in (here, there)}
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[here])
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[there])
            with pytest.raises(RedisError):
                await store.apply(0, second, flush)
            assert (here.get(log), here.hget(store.keys.meta(), "applied_offset")) == ("a", "0")
            keys = here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100)
            # Half of them are there, the bookkeeping among them.
            keys.sort(key=lambda key: key != store.keys.meta())
            for moved in keys:
                here.execute_command("MIGRATE", "127.0.0.1", target.port, moved, 0, 5_000)
                with pytest.raises(RedisError):
                    await store.apply(0, second, flush)
            for node in (there, here):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[there])
            await store.apply(0, second, flush)
            assert (there.get(log), there.get(new), there.hget(store.keys.meta(), "applied_offset")) == ("ab", "c", "1")


async def test_incidents_their_outbox_and_the_lease_outlive_their_master(on_cluster: Settings, cluster: RedisCluster) -> None:
    async with client(on_cluster) as redis:
        lease, store, outbox = (
            Lease(redis, on_cluster, "first"),
            IncidentStore(redis, on_cluster),
            Outbox(redis, on_cluster.redis.namespace),
        )
        token = await lease.acquire()
        assert token is not None
        await store.commit(token, step_of(opened("i-1")))
        master = cluster.master_of(alerts_key(on_cluster.redis.namespace, "lease"))
        with cluster.client(master) as direct:
            assert direct.execute_command("WAIT", 1, 5_000) == 1
        master.kill()
        failed: list[Exception] = []

        async def held() -> str | None:
            try:
                # The term may have run out while nobody could renew it.
                return token if await lease.renew(token) else await lease.acquire()
            except (RedisError, OSError, TimeoutError) as error:
                failed.append(error)
                return None

        new_token: str | None = await until(held, timeout=MOVED_WITHIN)
        assert failed, "the fail-over was not noticed"
        assert new_token is not None
        await store.commit(new_token, step_of(opened("i-2", seq=2)))
        assert sorted(incident.newest.incident_id for incident in await store.load()) == ["i-1", "i-2"]
        assert [entry.change.incident_id for entry in await outbox.read("0-0", 10) if entry.change] == ["i-1", "i-2"]
        assert await outbox.cursor("slack") > "1"
        await outbox.trim(["slack", "kafka"])


async def test_the_alerts_process_leads_again_after_a_fail_over(on_cluster: Settings, cluster: RedisCluster, tmp_path: Path) -> None:
    log = tmp_path / "alerts.log"
    with running(settings_file(tmp_path, on_cluster), log, "alerts"):
        said = await until(lambda: re.search(r"pages on (http://[0-9.]+:\d+)", log.read_text()), timeout=60)
        assert said is not None
        ready = f"{said[1]}/readyz"
        await until(lambda: get(ready)[1]["details"]["leader"])
        master = cluster.master_of(alerts_key(on_cluster.redis.namespace, "lease"))
        await asyncio.to_thread(master.kill)
        await until(lambda: get(ready)[1]["details"]["redis_silent_seconds"], lambda silent: silent > 1.5)
        await asyncio.to_thread(cluster.wait_until_healthy)
        await until(lambda: get(ready), lambda answer: answer[0] == 200 and answer[1]["details"]["leader"], timeout=MOVED_WITHIN)


async def test_answers_span_nodes_and_transactions_do_not(on_cluster: Settings, cluster: RedisCluster) -> None:
    async with client(on_cluster) as redis:
        pipe = redis.pipeline(transaction=False)
        for number in range(50):
            pipe.set(f"{{{number}}}:key", number)
        assert await pipe.execute() == [True] * 50
        for number in range(50):
            pipe.get(f"{{{number}}}:key")
        assert await pipe.execute() == [str(number).encode() for number in range(50)]
        atomic = redis.pipeline(transaction=True)
        atomic.hset("{a}:hash", mapping={"x": 1})
        atomic.hgetall("{a}:hash")
        atomic.expire("{a}:hash", 60)
        assert await atomic.execute() == [1, {b"x": b"1"}, True]
        atomic.set("{a}:1", 1)
        atomic.set("{b}:1", 1)
        with pytest.raises(RedisError, match="same hash tag"):
            await atomic.execute()
        # A client that knows the cluster as it was before is sent on to where the keys are now.
        moved = cluster.master_of("{a}:hash")
        with cluster.client(cluster.replica_of(moved)) as direct:
            direct.execute_command("CLUSTER FAILOVER")
        await until(lambda: cluster.master_of("{a}:hash") is not moved)
        atomic.hgetall("{a}:hash")
        assert await atomic.execute() == [{b"x": b"1"}]


async def test_a_cluster_that_is_not_fit_for_use_is_refused_in_words(on_cluster: Settings, cluster: RedisCluster) -> None:
    def at(**changes: object) -> Settings:
        return on_cluster.model_copy(update={"redis": on_cluster.redis.model_copy(update=changes)})

    await check_redis(on_cluster)
    one_node = f"redis://127.0.0.1:{cluster.nodes[0].port}"
    await check_redis(at(url=one_node, cluster=True))
    with pytest.raises(PreflightError, match=r"is a node of a cluster; set redis\.cluster to true"):
        await check_redis(at(url=one_node))
    with EmbeddedRedis() as single, pytest.raises(PreflightError, match=r"is no cluster; set redis\.cluster to false"):
        await check_redis(at(url=single.url, cluster=True))
    with cluster.client(cluster.masters()[1]) as direct:
        direct.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(PreflightError, match=rf"127\.0\.0\.1:{cluster.masters()[1].port} has maxmemory-policy allkeys-lru"):
            await check_redis(on_cluster)
        direct.config_set("maxmemory-policy", "noeviction")
    lost = cluster.masters()[2]
    for node in (await asyncio.to_thread(cluster.replica_of, lost), lost):
        node.kill()

    async def refusal() -> str:
        try:
            await check_redis(on_cluster)
        except PreflightError as error:
            return str(error)
        return ""

    said: str = await until(refusal, lambda said: "cluster_state" in said)
    assert re.search(r"node 127\.0\.0\.1:\d+ says cluster_state fail", said)


async def test_the_documented_rights_are_enough_on_a_cluster(
    on_cluster: Settings, cluster: RedisCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in cluster.nodes:
        with cluster.client(node) as direct:
            rules = [*documented_rules(on_cluster.redis.namespace), *documented_rules_of_a_cluster()]
            direct.execute_command("ACL SETUSER", "monitor", *rules)
    monkeypatch.setenv("CAMPAIGNWATCH_REDIS__PASSWORD", PASSWORD)
    settings = on_cluster.model_copy(update={"redis": on_cluster.redis.model_copy(update={"username": "monitor"})})
    clicks = Clicks(settings)
    with worker(settings, tmp_path) as one:
        await clicks.send(300)
        await clicks.all_counted_once(one.url)
        assert "NOPERM" not in one.said()

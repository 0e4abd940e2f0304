"""Tables built anew from the log beside those in use: nothing stops meanwhile, and afterwards they are what the log says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin.records_to_delete import RecordsToDelete

from streams.config import Settings, Topic
from streams.quarantine.record import decode_quarantined
from streams.tables.generations import generation_key, rebuild_key
from streams.tables.keys import PartitionKeys
from streams.tables.reader import TableReader
from tests.integration.conftest import client_of
from tests.integration.processes import run, running, settings_file
from tests.integration.test_breaks import admin_of, breaks, clicks, entry_of, make_again, total_clicks
from tests.integration.test_workers import Clicks
from tests.integration.workers import applied, ledger, records, send, until, worker


async def keys_of(settings: Settings) -> set[str]:
    """The tables' keys, by namespace."""
    async with client_of(settings.redis.url) as redis:
        return {key.decode() async for key in redis.scan_iter(match=f"{settings.redis.namespace}*", count=1_000)}


async def spoil(settings: Settings, partition: int) -> None:
    """Make the tables of a clicks partition wrong behind the worker's back: all its panes are gone."""
    tag = PartitionKeys(settings.redis.namespace, settings.topic(Topic.CLICKS), partition).tag
    async with client_of(settings.redis.url) as redis:
        gone = [key async for key in redis.scan_iter(match=f"{tag}pane:*", count=1_000)]
        assert gone
        for key in gone:
            await redis.unlink(key)


async def test_tables_are_built_anew_under_running_workers(ready: Settings, tmp_path: Path) -> None:
    log = Clicks(ready)
    with worker(ready, tmp_path) as one:
        await send(ready, Topic.CAMPAIGNS, [{"campaign_id": "c-1", "name": "One"}])
        await log.send(2_000)
        await applied(one.url, log.sent + 1)
        for partition in range(ready.kafka.partitions):
            await spoil(ready, partition)
        async with log.going_on():
            first = run(one.config, "rebuild", "--grace", "12")
            assert first.returncode == 0, first.stderr
            assert "switched over (generation 1)" in first.stdout
            assert (
                f"workers write the new tables in {5 * ready.kafka.partitions} of {5 * ready.kafka.partitions} partitions" in first.stdout
            )
            before = ledger(one.url).total("in")
            await applied(one.url, before + 100)
        # The registry's record is in the ledger too.
        log.sent, log.different = log.sent + 1, log.different + 1
        await applied(one.url, log.sent)
        assert total_clicks(one.url) == log.different - 1
        found = ledger(one.url)
        assert found.balanced
        assert (found.total("in"), found.total("applied")) == (log.sent, log.different)
        async with client_of(ready.redis.url) as redis:
            assert (await TableReader(redis, ready).campaigns())["c-1"]["name"] == "One"
        spaces = {key.partition(":")[0] for key in await keys_of(ready) if f"{{{ready.kafka.topic_prefix}." in key}
        assert spaces == {f"{ready.redis.namespace}~1"}, "nothing of the old tables is left"
        assert not any(entry["breaks"] for entry in found.partitions), "a rebuild is no break"

        second = run(one.config, "rebuild", "--grace", "12", "--keep-old")
        assert second.returncode == 0 and "(generation 2)" in second.stdout
        assert total_clicks(one.url) == log.different - 1
        assert one.stop() == 0
    with worker(ready, tmp_path) as two:
        await log.send(10)
        await applied(two.url, log.sent)
        assert total_clicks(two.url) == log.different - 1


async def test_what_no_worker_has_refused_yet_a_rebuild_refuses_for_it(one_partition: Settings, tmp_path: Path) -> None:
    topic = one_partition.topic(Topic.CLICKS)
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, [(b"c-1", b"seen by a worker"), *((b"c-1", value) for value in clicks(0, 10))])
        await applied(one.url, 11)
        assert one.stop() == 0
    await send(one_partition, Topic.CLICKS, [(b"c-1", b"seen by nobody"), *((b"c-1", value) for value in clicks(10, 10))])
    done = run(settings_file(tmp_path, one_partition), "rebuild", "--grace", "0")
    assert done.returncode == 0, done.stderr
    with worker(one_partition, tmp_path) as two:
        found = await applied(two.url, 22)
        assert found.total("quarantined") == 2
        assert total_clicks(two.url) == 20
    kept = [decode_quarantined(record.value or b"") for record in await records(one_partition, Topic.QUARANTINE, 2)]
    assert [(str(each.coordinates), each.value) for each in kept] == [
        (f"{topic}:0:0", b"seen by a worker"),
        (f"{topic}:0:11", b"seen by nobody"),
    ]


@pytest.mark.slow
async def test_after_a_topic_was_made_again_a_rebuild_counts_the_new_one_only(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        assert one.stop() == 0
    await make_again(one_partition)
    await send(one_partition, Topic.CLICKS, clicks(1_000, 30))
    with worker(one_partition, tmp_path) as two:
        await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["in"] == 30)
        assert total_clicks(two.url) == 130
        # The log's own count began again with the topic, so that nothing is missing of what the ledger speaks of.
        done = run(two.config, "rebuild", "--grace", "0")
        assert done.returncode == 0, done.stderr
        assert total_clicks(two.url) == 30
        await send(one_partition, Topic.CLICKS, clicks(2_000, 5))
        entry = await until(lambda: entry_of(ledger(two.url), one_partition), lambda e: e["in"] == 35)
        assert breaks(entry) == {}
        assert total_clicks(two.url) == 35


@pytest.mark.apache
async def test_what_the_log_has_lost_is_not_given_up_unasked(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        async with admin_of(one_partition) as admin:
            await admin.delete_records({TopicPartition(one_partition.topic(Topic.CLICKS), 0): RecordsToDelete(before_offset=40)})
        refused = run(one.config, "rebuild", "--grace", "0")
        assert refused.returncode == 2
        assert "no longer has 40 records" in refused.stderr and "--accept-loss" in refused.stderr
        assert total_clicks(one.url) == 100
        accepted = run(one.config, "rebuild", "--grace", "12", "--accept-loss")
        assert accepted.returncode == 0, accepted.stderr
        assert "40 records that the old tables had counted are not in the log any more" in accepted.stdout
        assert total_clicks(one.url) == 60


@pytest.mark.slow
async def test_a_rebuild_that_died_leaves_the_tables_as_they_were_and_the_next_one_cleans_up(
    one_partition: Settings, tmp_path: Path
) -> None:
    config = settings_file(tmp_path, one_partition)
    # In small steps, so that there is time to kill it.
    slow = one_partition.model_copy(update={"streams": one_partition.streams.model_copy(update={"flush_events": 100})})
    (tmp_path / "slow").mkdir()
    slowly = settings_file(tmp_path / "slow", slow)
    with worker(one_partition, tmp_path) as one:
        for first in range(0, 30_000, 10_000):
            await send(one_partition, Topic.CLICKS, clicks(first, 10_000))
        await applied(one.url, 30_000, timeout=90)
        with running(slowly, tmp_path / "rebuild.log", "rebuild") as dying:
            await until(lambda: begun(one_partition), lambda there: there, timeout=60)
            dying.kill()
        assert total_clicks(one.url) == 30_000
        again = run(config, "rebuild")
        assert again.returncode == 2 and "another rebuild is running" in again.stderr
        async with client_of(one_partition.redis.url) as redis:
            assert await redis.delete(rebuild_key(one_partition)) == 1
        after = run(config, "rebuild", "--grace", "12")
        assert after.returncode == 0, after.stderr
        assert total_clicks(one.url) == 30_000
        spaces = {key.partition(":")[0] for key in await keys_of(one_partition) if f"{{{one_partition.kafka.topic_prefix}." in key}
        assert spaces == {f"{one_partition.redis.namespace}~1"}


@pytest.mark.slow
async def test_a_switch_that_redis_forgot_leaves_no_partition_without_tables(one_partition: Settings, tmp_path: Path) -> None:
    """On a cluster the key that says which tables are in use can fall back alone."""
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        assert run(one.config, "rebuild", "--grace", "12", "--keep-old").returncode == 0
        await send(one_partition, Topic.CLICKS, clicks(100, 50))
        await applied(one.url, 150)
        async with client_of(one_partition.redis.url) as redis:
            await redis.delete(generation_key(one_partition))
        await send(one_partition, Topic.CLICKS, clicks(150, 50))
        entry = await until(lambda: entry_of(ledger(one.url), one_partition), lambda e: e["in"] == 200)
        assert entry["applied"] == 200
        assert total_clicks(one.url) == 200


@pytest.mark.slow
async def test_tables_that_a_redis_of_before_the_switch_has_in_use_are_not_deleted(one_partition: Settings, tmp_path: Path) -> None:
    with worker(one_partition, tmp_path) as one:
        await send(one_partition, Topic.CLICKS, clicks(0, 100))
        await applied(one.url, 100)
        with running(one.config, tmp_path / "rebuild.log", "rebuild", "--grace", "5") as rebuilding:
            async with client_of(one_partition.redis.url) as redis:
                key = generation_key(one_partition)

                async def switched() -> bool:
                    return await redis.get(key) == b"1"

                await until(switched, lambda done: done)
                await redis.delete(key)
            assert rebuilding.wait(60) == 2
        assert "so they were not deleted" in (tmp_path / "rebuild.log").read_text("utf-8")
        await send(one_partition, Topic.CLICKS, clicks(100, 50))
        entry = await until(lambda: entry_of(ledger(one.url), one_partition), lambda e: e["in"] == 150)
        assert (entry["applied"], breaks(entry)) == (150, {})
        assert total_clicks(one.url) == 150


async def begun(settings: Settings) -> bool:
    return any("~1:" in key and ":pane:" in key for key in await keys_of(settings))


def test_the_help_tells_when_to_use_it(tmp_path: Path, settings: Any) -> None:
    shown = run(settings_file(tmp_path, settings), "rebuild", "--help").stdout
    assert "campaignwatch doctor" in shown and "--accept-loss" in shown

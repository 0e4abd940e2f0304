"""An owner of a partition when the program itself fails: one record goes to quarantine, and nothing stops for it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry
from redis.exceptions import TimeoutError as RedisTimeoutError

from streams.app.owners import AssignedPartitions
from streams.config import Kafka, Settings, Streams, Topic
from streams.config import Redis as RedisSettings
from streams.events.refusal import Refusal
from streams.ingest import owner
from streams.ingest.claiming import Share, claim, note
from streams.ingest.continuity import Break, Finding, LogState
from streams.ingest.facts import facts_of
from streams.ingest.flush import Flush, PartitionFlusher
from streams.ingest.owner import PartitionOwner
from streams.ingest.records import Records
from streams.metrics.ingest import IngestMetrics
from streams.privacy.erased import ERASING
from streams.redis_errors import as_redis_errors
from streams.tables import store
from streams.tables.generations import PartitionTables
from streams.tables.keys import Command, pane_name
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables
from streams.tables.reader import TableReader
from streams.tables.store import PartitionStore
from streams.tables.windows import PartitionLedger
from streams.transport import Batch
from tests.integration.conftest import client_of
from tests.integration.workers import until
from tests.reference import LogRecord


@dataclass
class FakeLog:
    """A partition that is fetched again from wherever the owner asks."""

    records: Sequence[LogRecord]
    position: int = 0
    #: How often something fails that should not.
    failures: int = 0
    quarantined: list[tuple[int, str]] = field(default_factory=list)
    #: Whether the broker does not answer, and whether it was asked then.
    silent: bool = False
    asked_in_vain: bool = False

    async def state(self) -> LogState:
        if self.silent:
            self.asked_in_vain = True
            await asyncio.Event().wait()
        return LogState(0, len(self.records))

    def committed(self) -> int:
        return -1

    async def seek_back(self, offset: int) -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError("no answer to a seek")
        self.position = offset

    def at_end(self, next_offset: int) -> bool:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("between two assignments")
        return next_offset >= len(self.records)

    async def quarantine(self, refused: Sequence[tuple[Any, Refusal]]) -> None:
        self.quarantined += [(record.offset, refusal.reason.value) for record, refusal in refused]


AT_ONCE = Streams(flush_interval=0.01, idle_timeout=2.0)


def log_of(*campaigns: str) -> list[LogRecord]:
    now = time.time_ns() // 1_000_000
    return [LogRecord("t.clicks", 0, i, now, name.encode(), json.dumps(click(i, name, now)).encode()) for i, name in enumerate(campaigns)]


def click(number: int, campaign: str, now: int) -> dict[str, Any]:
    return {"event_id": f"e-{number}", "occurred_at": now, "campaign_id": campaign, "channel": "search", "cost": "0.01"}


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> list[PartitionOwner]:
    """The owners that were started, in that order."""
    started: list[PartitionOwner] = []
    real = PartitionOwner.start

    async def start(self: PartitionOwner, state: LogState) -> int:
        started.append(self)
        return await real(self, state)

    monkeypatch.setattr(PartitionOwner, "start", start)
    return started


def settings_of(redis_url: str, limits: Streams = AT_ONCE) -> Settings:
    return Settings(kafka=Kafka(topic_prefix="t", session_timeout=2.0), redis=RedisSettings(url=redis_url), streams=limits)


@asynccontextmanager
async def owning(
    redis_url: str, kafka: FakeLog, limits: Streams = AT_ONCE, clock: Callable[[], float] = time.time
) -> AsyncIterator[Callable[[], Any]]:
    """An owner that is fed from the log; gives a function that reads its ledger."""
    settings = settings_of(redis_url, limits)
    redis = client_of(redis_url)
    tables = PartitionTables(redis, settings, "t.clicks", 0)
    metrics = IngestMetrics(CollectorRegistry())
    share = Share(cells=lambda: 1_000_000, ids=lambda: 1_000_000)
    one = PartitionOwner(Topic.CLICKS, settings, tables, kafka, metrics, clock=clock, share=share)
    await one.start(await kafka.state())

    async def feed() -> None:
        while True:
            batch = [record for record in kafka.records if record.offset >= kafka.position][:40]
            if batch:
                since, kafka.position = kafka.position, batch[-1].offset + 1
                await one.take(Records.of(batch), since)
            await asyncio.sleep(0.01)

    feeding = asyncio.create_task(feed())
    try:
        yield TableReader(redis, settings).ledger
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)
        await one.release()
        await redis.aclose()


def has_read(at: int, found: Sequence[PartitionLedger]) -> bool:
    return bool(found) and found[0].read >= at


async def test_redis_emptied_again_and_again_while_records_come_loses_none(redis_url: str) -> None:
    kafka = FakeLog(log_of(*["good"] * 4_000))
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        for at in (200, 500, 1_000):
            await until(ledger, partial(has_read, at))
            await redis.flushall()
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].applied_offset == 3_999)
    assert (entry.start_offset, entry.read, entry.applied) == (0, 4_000, 4_000)


async def test_a_batch_that_comes_while_redis_is_read_again_is_not_taken_for_the_next(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = log_of(*["good"] * 120)
    kafka = FakeLog(whole[:40])
    real = PartitionOwner._load

    async def load(self: PartitionOwner, state: LogState) -> None:
        if self.meta is not None and len(kafka.records) == 41:
            # What was fetched before Redis was emptied, handed over just now.
            coming = asyncio.create_task(self.take(Records.of(whole[41:80]), 41))
            for _ in range(3):
                await asyncio.sleep(0)
            kafka.records = whole
            await real(self, state)
            assert not coming.done()
            return
        await real(self, state)

    monkeypatch.setattr(PartitionOwner, "_load", load)
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 40))
        await redis.flushall()
        kafka.records = whole[:41]
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].applied_offset == 119)
    assert (entry.start_offset, entry.read, entry.applied) == (0, 120, 120)


async def test_a_partition_is_read_on_whatever_its_consumer_says(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "_LAST_RETRY", 0.2)
    whole = log_of(*["good"] * 300)
    kafka = FakeLog(whole[:100])
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 100))
        kafka.failures = 1
        await until(lambda: kafka.failures, lambda left: not left)
        kafka.failures = 3
        await redis.flushall()
        kafka.records = whole
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].applied_offset == 299)
    assert (entry.read, kafka.failures) == (300, 0)


async def test_what_came_during_a_slow_flush_does_not_wait_for_the_interval_again(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    interval = 1.5
    whole = log_of(*["good"] * 80)
    kafka = FakeLog(whole[:40])
    real = PartitionStore.apply
    applied_at: dict[int, float] = {}

    async def apply(self: PartitionStore, expected: int, meta: Meta, commands: Sequence[Command]) -> None:
        if meta.applied_offset == 39 and not meta.caught_up_at:
            kafka.records = whole
            await asyncio.sleep(1.2 * interval)  # a Redis that is slow, as long as the others have to wait
        await real(self, expected, meta, commands)
        applied_at.setdefault(meta.applied_offset, time.monotonic())

    monkeypatch.setattr(PartitionStore, "apply", apply)
    async with owning(redis_url, kafka, Streams(flush_interval=interval, idle_timeout=2.0)) as ledger:
        await until(ledger, lambda found: bool(found) and found[0].applied_offset == 79)
    assert applied_at[79] - applied_at[39] < interval


async def test_long_records_are_applied_in_parts_that_fit_into_memory(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns() // 1_000_000
    long = [
        LogRecord("t.clicks", 0, i, now, b"good", json.dumps(click(i, "good", now) | {"landing_page": "p" * 2_000}).encode())
        for i in range(200)
    ]
    taken: list[int] = []
    real = PartitionFlusher.flush

    async def flush(self: PartitionFlusher, records: Records, *arguments: Any) -> Flush:
        taken.append(records.nbytes)
        return await real(self, records, *arguments)

    monkeypatch.setattr(PartitionFlusher, "flush", flush)
    limits = Streams(flush_interval=0.01, idle_timeout=2.0, flush_bytes=10_000)
    async with owning(redis_url, FakeLog(long), limits) as ledger:
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].applied_offset == 199)
    assert (entry.read, entry.applied) == (200, 200)
    assert len(taken) >= 200 * 2_000 / 10_000 and max(taken) <= 10_000


async def test_panes_that_redis_lost_under_an_owner_are_counted_again(redis_url: str, owners: list[PartitionOwner]) -> None:
    kafka = FakeLog(log_of(*["good"] * 120))
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 120))
        (one,) = owners
        await one.check()
        assert not (await ledger())[0].notes
        gone = [key async for key in redis.scan_iter(match="*:pane:*")]
        await redis.delete(*gone)
        await one.check()
        # It is counted anew, so that it is behind for a moment.
        (entry,) = await until(ledger, lambda found: bool(found[0].notes) and found[0].read == 120)
        assert (entry.applied, set(entry.notes)) == (120, {"tables_fell_back"})
        assert {key async for key in redis.scan_iter(match="*:pane:*")} == set(gone)


async def test_a_sketch_that_redis_lost_under_an_owner_is_noticed_within_ten_looks(redis_url: str, owners: list[PartitionOwner]) -> None:
    now = time.time_ns() // 1_000_000
    values = [json.dumps(click(i, "good", now - 20_000 * i) | {"user_id": f"u{i}"}).encode() for i in range(120)]
    kafka = FakeLog([LogRecord("t.clicks", 0, i, now, b"good", value) for i, value in enumerate(values)])
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 120))
        (one,) = owners
        for _ in range(10):
            await one.check()
        assert not (await ledger())[0].notes
        sketches = sorted([key async for key in redis.scan_iter(match="*:reach:*")])
        assert len(sketches) > 100
        await redis.delete(sketches[70])
        for _ in range(10):
            await one.check()
        (entry,) = await until(ledger, lambda found: bool(found[0].notes) and found[0].read == 120)
        assert (entry.applied, set(entry.notes)) == (120, {"tables_fell_back"})
        assert sorted([key async for key in redis.scan_iter(match="*:reach:*")]) == sketches


async def lose(redis: Any, what: str) -> None:
    """Delete keys of the partition as nobody should: one pane, or its bookkeeping."""
    pattern = "*:pane:*" if what == "panes" else "*:meta"
    assert await redis.delete(*[key async for key in redis.scan_iter(match=pattern)][:1]) == 1


@pytest.mark.parametrize("steps", [0, 1, 5])
@pytest.mark.parametrize("what", ["panes", "bookkeeping"])
async def test_counting_anew_that_was_interrupted_is_begun_again(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, what: str, steps: int
) -> None:
    async with owning(redis_url, FakeLog(log_of(*["good"] * 120))) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 120))
    settings, state, now = settings_of(redis_url), LogState(0, 120), int(time.time() * 1000)
    real, done = PartitionStore.apply, 0

    async def interrupted(self: PartitionStore, expected_offset: int, meta: Meta, commands: Sequence[Command]) -> None:
        nonlocal done
        if commands and commands[0][0] == "UNLINK":
            done += 1
            if done > steps:
                raise RedisTimeoutError
        await real(self, expected_offset, meta, commands)

    async with client_of(redis_url) as redis:
        tables = PartitionTables(redis, settings, "t.clicks", 0)
        await lose(redis, what)
        with monkeypatch.context() as patched:
            patched.setattr(store, "AT_ONCE", 1)
            patched.setattr(PartitionStore, "apply", interrupted)
            with pytest.raises(RedisTimeoutError):
                await claim(Topic.CLICKS, settings, tables, state, now)
        claimed = await claim(Topic.CLICKS, settings, tables, state, now)
        assert [finding.kind for finding in claimed.findings] == [Break.TABLES_FELL_BACK]
        assert claimed.flusher.meta.next_offset == 0
        tag = claimed.store.keys.tag
        left = {key.decode().removeprefix(tag) async for key in redis.scan_iter() if key.decode().startswith(tag)}
        assert left == {"meta", "notes", "settings", "kept"}, "nothing is counted on top of what was there"


async def test_what_the_tables_hold_of_a_deleted_topic_is_not_given_up_for_a_pane(redis_url: str) -> None:
    async with owning(redis_url, FakeLog(log_of(*["good"] * 120))) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 120))
    settings, now = settings_of(redis_url), int(time.time() * 1000)
    async with client_of(redis_url) as redis:
        tables = PartitionTables(redis, settings, "t.clicks", 0)
        _, of_partition = await tables.open()
        await note(of_partition, [Finding(Break.TOPIC_RECREATED, 7, "made again")], now)
        panes = len(await of_partition.known_panes())
        await lose(redis, "panes")
        claimed = await claim(Topic.CLICKS, settings, tables, LogState(0, 120), now)
        assert [(found.kind, found.records) for found in claimed.findings] == [(Break.TABLES_FELL_BACK, 0)]
        assert claimed.flusher.meta.next_offset == 120
        assert len(await of_partition.known_panes()) == panes - 1


async def test_panes_that_the_owner_itself_deletes_meanwhile_are_not_lost(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with owning(redis_url, FakeLog(log_of(*["good"] * 120))) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 120))
        _, of_partition = await PartitionTables(redis, settings_of(redis_url), "t.clicks", 0).open()
        known = redis.zrange

        async def and_then_expired(*asked: Any) -> Any:
            members = await known(*asked)
            monkeypatch.setattr(redis, "zrange", known)
            pane = (await of_partition.known_panes())[0]
            await redis.delete(of_partition.keys.pane(*pane))
            await redis.zrem(of_partition.keys.panes(), pane_name(*pane))
            return members

        monkeypatch.setattr(redis, "zrange", and_then_expired)
        assert await of_partition.lost_panes(0) == []


async def test_a_clock_that_was_set_back_holds_no_watermark(redis_url: str) -> None:
    kafka = FakeLog(log_of(*["good"] * 40))
    ahead = 3_600.0
    async with owning(redis_url, kafka, clock=lambda: time.time() + ahead) as ledger:
        await until(ledger, partial(has_read, 40))
        ahead = 0.0
        set_back = time.time() * 1000
        await until(ledger, lambda found: found[0].watermark > set_back)


async def test_a_partition_that_waits_for_a_broker_is_let_go_of_at_once(redis_url: str) -> None:
    kafka = FakeLog(log_of(*["good"] * 10))
    async with owning(redis_url, kafka) as ledger, client_of(redis_url) as redis:
        await until(ledger, partial(has_read, 10))
        kafka.silent = True
        await redis.flushall()
        kafka.records = [*kafka.records, *(replace(record, offset=record.offset + 10) for record in kafka.records)]
        await until(lambda: kafka.asked_in_vain)
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_a_gap_in_the_log_itself_is_read_over(redis_url: str) -> None:
    whole = log_of(*["good"] * 100)
    kafka = FakeLog([record for record in whole if not 30 <= record.offset < 50])
    async with owning(redis_url, kafka) as ledger:
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].applied_offset == 99)
    assert (entry.read, entry.applied) == (80, 80)


async def test_what_was_taken_is_applied_before_what_still_comes(redis_url: str, owners: list[PartitionOwner]) -> None:
    kafka = FakeLog(log_of(*["good"] * 40_000))
    async with owning(redis_url, kafka) as ledger:
        await until(ledger, partial(has_read, 100))
        await asyncio.wait_for(owners[0].drained(), 30)
        assert owners[0].next_offset < 40_000, "records still came, and it did not wait for them"


def fail_on_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(topic: Topic, columns: Any, *rest: Any) -> Any:
        if "poison" in columns.dimensions["campaign_id"]:
            raise ZeroDivisionError("a defect")
        return facts_of(topic, columns, *rest)

    monkeypatch.setattr("streams.ingest.flush.facts_of", failing)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set once an owner holds the program to be at fault, not a record."""
    found = asyncio.Event()
    real = PartitionOwner._close_in_on

    def close_in_on(self: PartitionOwner, batch: Records, error: Exception) -> float | None:
        pause = real(self, batch, error)
        if pause is None:
            found.set()
        return pause

    monkeypatch.setattr(PartitionOwner, "_close_in_on", close_in_on)
    return found


async def test_a_record_that_the_program_fails_on_is_quarantined_and_all_others_count(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_poison(monkeypatch)
    names = ["good"] * 100
    names[17] = names[60] = "poison"
    kafka = FakeLog(log_of(*names))
    async with owning(redis_url, kafka) as ledger:
        (entry,) = await until(ledger, lambda found: bool(found) and found[0].read == 100)
    assert (entry.applied, entry.quarantined, entry.duplicate) == (98, 2, 0)
    assert kafka.quarantined == [(17, "unprocessable"), (60, "unprocessable")]


async def test_a_program_that_fails_on_everything_empties_no_topic_into_quarantine(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, waits: asyncio.Event
) -> None:
    fail_on_poison(monkeypatch)
    monkeypatch.setattr(owner, "_MOST_GIVEN_UP", 3)
    kafka = FakeLog(log_of(*["poison"] * 20))
    async with owning(redis_url, kafka) as ledger:
        await asyncio.wait_for(waits.wait(), 30)
        assert [(e.read, e.quarantined) for e in await ledger()] == [(3, 3)]
    assert len(kafka.quarantined) == 3


async def test_what_fails_without_the_record_too_waits(redis_url: str, monkeypatch: pytest.MonkeyPatch, waits: asyncio.Event) -> None:
    def take_commands(*_: Any) -> Any:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(OpenTables, "take_commands", take_commands)
    kafka = FakeLog(log_of("good"))
    async with owning(redis_url, kafka) as ledger:
        await asyncio.wait_for(waits.wait(), 30)
        assert [e.read for e in await ledger()] == [0]
    assert kafka.quarantined == []


async def test_a_flush_goes_on_where_a_read_of_its_was_late(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Began it anew, a flush that reads thousands of panes would never end while Redis is slow."""
    real, late, claims = PartitionStore.load, [1, 2, 3], 0
    claim = PartitionOwner._load

    async def load(self: PartitionStore, *what: Any) -> None:
        if late:
            late.pop()
            raise RedisTimeoutError("no answer in time")
        await real(self, *what)

    async def counted(self: PartitionOwner, state: LogState) -> None:
        nonlocal claims
        claims += 1
        await claim(self, state)

    monkeypatch.setattr(PartitionStore, "load", load)
    monkeypatch.setattr(PartitionOwner, "_load", counted)
    async with owning(redis_url, FakeLog(log_of(*["good"] * 30))) as ledger:
        (entry,) = await until(ledger, partial(has_read, 30))
    assert (entry.applied, claims, late) == (30, 1, [])


async def test_an_idle_partition_goes_on_when_users_are_erased_while_it_says_so(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The erasure comes between its look for one and its note; there is nothing to make again, so it claims nothing again."""
    announced: list[PartitionStore] = []
    real = PartitionStore.newly_erased

    async def newly_erased(self: PartitionStore, key: str) -> Any:
        found = await real(self, key)
        if len(announced) < 3:
            announced.append(self)
            async with client_of(redis_url) as another:
                await another.hset(self.keys.meta(), "erasure", f"{ERASING}:{len(announced)}")
        return found

    kafka = FakeLog(log_of(*["good"] * 10))
    async with owning(redis_url, kafka) as ledger:
        await until(ledger, partial(has_read, 10))
        caplog.clear()
        monkeypatch.setattr(PartitionStore, "newly_erased", newly_erased)
        await until(lambda: announced, lambda so_far: len(so_far) == 3)
        then = time.time_ns() // 1_000_000

        async def noted() -> bool:
            return (await announced[0].meta()).caught_up_at > then

        await until(noted, bool)
        assert (await ledger())[0].applied == 10
    assert [message for message in caplog.messages if "fenced" in message] == []


async def test_an_assignment_that_is_given_up_half_way_leaves_no_owner_asleep(redis_url: str) -> None:
    """Faust gives up waiting for an assignment when the next one comes, or after a while; the owners must not be left half made."""
    log = log_of(*["good"] * 40)
    settings = Settings(
        kafka=Kafka(topic_prefix="t", session_timeout=2.0),
        redis=RedisSettings(url=redis_url, timeout=0.5),
        streams=Streams(flush_interval=0.01, idle_timeout=2.0),
    )
    sought: list[int] = []

    async def seek_back(_: TP, offset: int) -> None:
        sought.append(offset)

    consumer = SimpleNamespace(seek_back=seek_back, committed=lambda _: -1, at_end=lambda _, at: at >= 40, behind=lambda *_: 0)
    async with client_of(redis_url) as redis:
        partitions = AssignedPartitions(settings, redis, cast(Any, None), IngestMetrics(CollectorRegistry()), clock=time.time)
        partitions.consumer = lambda: cast(Any, consumer)
        clicks, conversions = TP("t.clicks", 0), TP("t.conversions", 0)
        await redis.client_pause(3_000)
        given_up = asyncio.create_task(partitions.acquire({clicks: LogState(0, 40), conversions: LogState(0, 0)}))
        await asyncio.sleep(0.1)
        given_up.cancel()
        await asyncio.gather(given_up, return_exceptions=True)
        # The next assignment has one of them only, and is waited for in vain, since Redis does not answer yet.
        assert await partitions.acquire({clicks: LogState(0, 40)}) == {}
        assert len(partitions) == 1
        await until(lambda: sought, lambda found: found == [0])
        await partitions.take(Batch(clicks, Records.of(log), 0))
        (entry,) = await until(TableReader(redis, settings).ledger, partial(has_read, 40))
        assert entry.applied == 40
        await partitions.release_all()


async def test_a_client_that_breaks_is_no_records_fault(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose connection is closed under it may raise anything: it is tried again, and nothing goes to quarantine."""
    broken = {"apply": 3, "load": 3, "reports": 0}

    def breaking(name: str) -> None:
        real = getattr(PartitionStore, name)

        async def call(self: PartitionStore, *arguments: Any) -> Any:
            if broken[name]:
                broken[name] -= 1
                if name == "apply":
                    raise AttributeError("'NoneType' object has no attribute 'writelines'")
                with as_redis_errors():
                    raise AttributeError("'NoneType' object has no attribute 'writelines'")
            return await real(self, *arguments)

        monkeypatch.setattr(PartitionStore, name, call)

    for name in broken:
        breaking(name)
    kafka = FakeLog(log_of("good"))
    async with owning(redis_url, kafka) as ledger:
        (entry,) = await until(ledger, partial(has_read, 1), timeout=60)
    assert (entry.applied, entry.quarantined) == (1, 0)
    assert kafka.quarantined == []
    assert not any(broken.values())

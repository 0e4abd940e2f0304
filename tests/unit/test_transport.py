"""The batch consumer, with a stand-in for its Kafka thread: whole batches go in, and only what was applied is committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.errors import KafkaTimeoutError
from faust.tables.recovery import RebalanceAgain
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP, ConsumerMessage

from streams.app.worker import build_app
from streams.config import Kafka, Settings
from streams.ingest.continuity import LogState
from streams.ingest.records import Record, Records
from streams.transport import Batch, Consumer, Transport, batches
from tests.integration.workers import until

CLICKS, SPEND = TP("marketing.clicks", 0), TP("marketing.spend", 3)


@dataclass
class FakeOwners:
    """Owners that say what they are told to say, and write down what happens to them."""

    next_offset: dict[TP, int] = field(default_factory=dict)
    told: list[tuple[str, Any]] = field(default_factory=list)
    mark: str = "tables"

    async def acquire(self, logs: Mapping[TP, LogState]) -> Mapping[TP, int]:
        self.told.append(("acquire", dict(logs)))
        return {tp: self.next_offset[tp] for tp in logs if tp in self.next_offset}

    async def revoke(self, partitions: Iterable[TP]) -> None:
        self.told.append(("revoke", set(partitions)))

    def applied(self) -> Mapping[TP, int]:
        return self.next_offset

    def forget_revoked(self) -> None:
        self.next_offset = {}


@dataclass
class FakeThread:
    """The thread in which aiokafka's consumer lives."""

    assigned: set[TP] = field(default_factory=set)
    highwaters: dict[TP, int] = field(default_factory=dict)
    fetched: dict[TP, Batch] = field(default_factory=dict)
    #: Offsets between which the log holds no record.
    nothing_between: set[tuple[int, int]] = field(default_factory=set)
    sought: list[Mapping[TP, int]] = field(default_factory=list)
    #: The group's committed offsets.
    group: dict[TP, int] = field(default_factory=dict)
    #: How often the broker does not answer.
    failures: int = 0
    #: The broker takes no commit, since the group has other members by now.
    refuses: bool = False
    #: The broker has not answered a fetch for long.
    silent: bool = False
    #: The broker answers nothing about logs before this is set.
    answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers.set()

    def assignment(self) -> set[TP]:
        return self.assigned

    def highwater(self, tp: TP) -> int | None:
        return self.highwaters.get(tp)

    def fetched_within(self, tp: TP, seconds: float) -> bool:
        return tp in self.assigned and tp in self.highwaters and not self.silent

    def all_delivered(self, tp: TP, next_offset: int, end: int) -> bool:
        return (next_offset, end) in self.nothing_between

    async def log_states(self, tps: Sequence[TP]) -> Mapping[TP, LogState]:
        await self.answers.wait()
        if self.failures:
            self.failures -= 1
            raise KafkaTimeoutError
        return {tp: LogState(10 + tp.partition, 1_000, self.group.get(tp, -1)) for tp in tps}

    async def seek_wait(self, positions: Mapping[TP, int]) -> None:
        self.sought.append(positions)

    async def commit(self, offsets: Mapping[TP, int]) -> bool:
        return not self.refuses

    async def getmany(self, active: set[TP] | None, timeout: float) -> dict[TP, Batch]:
        return self.fetched


class Rig:
    """A real consumer of the worker's app between the two stand-ins."""

    def __init__(self) -> None:
        app = build_app(Settings(kafka=Kafka(bootstrap_servers="127.0.0.1:1")))
        self.owners, self.thread = FakeOwners(), FakeThread({CLICKS, SPEND})
        app.owners = cast(Any, self.owners)
        self.consumer = cast(Consumer, app.consumer)
        self.consumer._thread = cast(Any, self.thread)
        self.consumer._set_active_tps(self.thread.assigned)

    def committable(self) -> dict[TP, int]:
        """What Faust would commit now, whatever it thinks was acknowledged."""
        return self.consumer._filter_committable_offsets(())

    async def fetch(self) -> list[tuple[TP, ConsumerMessage]]:
        return [(tp, cast(ConsumerMessage, message)) async for tp, message in self.consumer.getmany(1.0)]


@pytest.fixture
async def rig() -> Rig:
    return Rig()


async def test_idle_partitions_are_not_waited_for_at_the_expense_of_busy_ones(rig: Rig) -> None:
    """aiokafka sends one fetch at a time, without the partitions whose records were not taken yet; Faust lets it wait for 1.5 s."""
    thread = cast(Any, rig.consumer._new_consumer_thread())
    consumer = thread._create_worker_consumer(rig.consumer.transport)
    # The attribute is aiokafka's own, which gives it to the fetcher when it starts.
    assert "_fetch_max_wait_ms" in vars(AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1"))
    assert consumer._fetch_max_wait_ms == batches.FETCH_WAIT_MS <= 100


def records(*offsets: int) -> Records:
    return Records.of(Record(o, 1_790_000_000_000 + o, b"c-1", b"{}") for o in offsets)


def fetched(since: int, tp: TP, *offsets: int) -> Batch:
    return Batch(tp, records(*offsets), since)


async def test_the_workers_app_uses_this_transport(rig: Rig) -> None:
    assert isinstance(rig.consumer, Consumer)
    assert isinstance(rig.consumer.transport, Transport)


# Committing.


async def test_what_was_applied_is_committed_and_nothing_else(rig: Rig) -> None:
    assert rig.committable() == {}
    rig.owners.next_offset = {CLICKS: 120, SPEND: 7}
    assert rig.committable() == {CLICKS: 120, SPEND: 7}


async def test_a_partition_without_anything_applied_is_not_committed(rig: Rig) -> None:
    rig.owners.next_offset = {CLICKS: -1, SPEND: 0}
    assert rig.committable() == {}


async def test_the_same_offset_is_not_committed_twice_and_never_an_older_one(rig: Rig) -> None:
    rig.owners.next_offset = {CLICKS: 120, SPEND: 7}
    await rig.consumer._commit_offsets({CLICKS: 120, SPEND: 6})
    assert rig.committable() == {SPEND: 7}
    rig.owners.next_offset[CLICKS] = 100  # Redis came back older than it was
    assert rig.committable() == {SPEND: 7}
    rig.owners.next_offset[CLICKS] = 121
    assert rig.committable() == {CLICKS: 121, SPEND: 7}


async def test_a_commit_that_the_broker_refuses_is_none(rig: Rig) -> None:
    rig.thread.refuses = True
    rig.owners.next_offset = {CLICKS: 120}
    await rig.consumer._commit_offsets({CLICKS: 120})
    assert rig.consumer.committed(CLICKS) == -1
    assert rig.committable() == {CLICKS: 120}


async def test_acknowledging_a_batch_moves_no_offset(rig: Rig) -> None:
    rig.thread.fetched = {CLICKS: fetched(5, CLICKS, 5, 6)}
    ((_, message),) = await rig.fetch()
    rig.consumer.track_message(message)
    assert message in rig.consumer._unacked_messages
    assert rig.consumer.ack(message)
    assert message.acked
    assert message not in rig.consumer._unacked_messages
    assert not rig.consumer.ack(message), "once is enough"
    assert rig.committable() == {}


# Batches.


async def test_a_fetch_becomes_a_message_per_partition(rig: Rig) -> None:
    rig.thread.fetched = {CLICKS: fetched(4, CLICKS, 5, 6, 9), SPEND: fetched(0, SPEND, 0)}
    (first, clicks), (second, spend) = await rig.fetch()
    assert (first, second) == (CLICKS, SPEND)
    batches = [cast(Batch, message.value) for message in (clicks, spend)]
    assert [(b.tp, list(b.records), b.since) for b in batches] == [(CLICKS, list(records(5, 6, 9)), 4), (SPEND, list(records(0)), 0)]
    assert (clicks.topic, clicks.partition, clicks.offset, clicks.tp) == ("marketing.clicks", 0, 9, CLICKS)
    assert clicks.timestamp == 1_790_000_000.009
    assert (clicks.key, clicks.acked) == (None, False)


async def test_nothing_fetched_is_no_message(rig: Rig) -> None:
    rig.thread.fetched = {}
    assert await rig.fetch() == []


async def test_a_batch_that_is_read_again_is_handed_on_again(rig: Rig) -> None:
    """Faust would take it for a repeat; here the owners know what they have."""
    rig.thread.fetched = {CLICKS: fetched(5, CLICKS, 5, 6)}
    for _ in range(2):
        ((tp, message),) = await rig.fetch()
        rig.consumer._read_offset[tp] = message.offset
        assert rig.consumer._read_offset[tp] is None


async def test_partitions_that_are_not_active_are_left_out(rig: Rig) -> None:
    rig.consumer._set_active_tps({SPEND})
    rig.thread.fetched = {CLICKS: fetched(5, CLICKS, 5), SPEND: fetched(0, SPEND, 0)}
    assert [tp for tp, _ in await rig.fetch()] == [SPEND]


async def test_a_rebalance_under_way_ends_the_fetch(rig: Rig) -> None:
    rig.thread.fetched = {CLICKS: fetched(5, CLICKS, 5), SPEND: fetched(0, SPEND, 0)}
    seen = []
    async for tp, _ in rig.consumer.getmany(1.0):
        seen.append(tp)
        rig.consumer.stop_flow()
    assert seen == [CLICKS]


async def test_a_full_queue_does_not_take_the_partition_out_of_the_fetch(rig: Rig) -> None:
    rig.consumer.on_buffer_full(CLICKS)
    assert rig.consumer._get_active_partitions() == {CLICKS, SPEND}
    rig.consumer.on_buffer_drop(CLICKS)
    assert rig.consumer._get_active_partitions() == {CLICKS, SPEND}


# Assignments and positions.


async def test_an_assignment_starts_where_the_tables_are(rig: Rig) -> None:
    rig.owners.next_offset = {CLICKS: 120, SPEND: 7}
    await rig.consumer.perform_seek()
    assert rig.owners.told == [("acquire", {CLICKS: LogState(10, 1_000), SPEND: LogState(13, 1_000)})]
    assert rig.thread.sought == [{CLICKS: 120, SPEND: 7}]


async def test_tables_that_fell_back_do_not_make_the_groups_offsets_fall_back(rig: Rig) -> None:
    rig.thread.group = {CLICKS: 130}
    rig.owners.next_offset = {CLICKS: 120, SPEND: 7}
    await rig.consumer.perform_seek()
    assert rig.consumer.committed(CLICKS) == 130
    assert rig.committable() == {SPEND: 7}
    rig.owners.next_offset[CLICKS] = 131
    assert rig.committable() == {CLICKS: 131, SPEND: 7}


async def test_nor_does_the_last_commit_of_partitions_that_are_taken_away(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust forgets what was committed before it commits for the last time, while the owners still say where they were."""
    rig.thread.group = {CLICKS: 130}
    rig.owners.next_offset = {CLICKS: 120, SPEND: 7}
    await rig.consumer.perform_seek()
    last: list[dict[TP, int]] = []

    async def commit(_: set[TP]) -> None:
        last.append(rig.committable())

    monkeypatch.setattr(rig.consumer, "_on_partitions_revoked", commit)
    await rig.consumer.on_partitions_revoked({CLICKS, SPEND})
    assert last == [{SPEND: 7}]
    assert rig.committable() == {}, "from now on their new owner commits, who may be further"


async def test_a_broker_that_does_not_answer_at_once_is_asked_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_RETRY", 0.0)
    rig.thread.failures = 3
    rig.owners.next_offset = {CLICKS: 120}
    await rig.consumer.perform_seek()
    assert rig.thread.sought == [{CLICKS: 120}]
    assert rig.thread.failures == 0


async def test_a_broker_that_keeps_silent_for_long_does_not_stop_the_worker_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust waits for 40 s, and then never lets anything be read again."""
    assert cast(Any, rig.consumer.app.conf).broker_request_timeout > 1.5 * batches._SEEKING
    monkeypatch.setattr(batches, "_SEEKING", 0.01)
    rig.thread.answers.clear()
    rig.owners.next_offset = {CLICKS: 120}
    await rig.consumer.perform_seek()
    assert (rig.owners.told, rig.thread.sought) == ([], [])
    rig.thread.answers.set()
    await until(lambda: rig.thread.sought)
    assert rig.thread.sought == [{CLICKS: 120}]


async def test_nothing_is_taken_over_late_that_was_taken_away_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_SEEKING", 0.01)
    rig.thread.answers.clear()
    await rig.consumer.perform_seek()
    await rig.consumer.on_partitions_revoked({CLICKS, SPEND})
    rig.thread.answers.set()
    await rig.consumer.perform_seek()
    assert [what for what, _ in rig.owners.told] == ["revoke", "acquire"]


async def test_partitions_that_are_taken_away_while_they_are_taken_over_are_waited_for_again(rig: Rig) -> None:
    """Faust's task that lets anything be read ends for good with whatever else is raised here."""
    rig.thread.answers.clear()
    seeking = asyncio.create_task(rig.consumer.perform_seek())
    await asyncio.sleep(0)
    await rig.consumer.on_partitions_revoked({CLICKS, SPEND})
    with pytest.raises(RebalanceAgain):
        await seeking
    rig.thread.answers.set()
    rig.owners.next_offset = {CLICKS: 120}
    await rig.consumer.perform_seek()
    assert rig.thread.sought == [{CLICKS: 120}]


async def test_faust_goes_on_after_partitions_were_taken_away_while_they_were_taken_over(rig: Rig) -> None:
    rig.thread.answers.clear()
    recovery = cast(Any, rig.consumer.app.tables).recovery
    recovery.signal_recovery_start.set()
    recovering = asyncio.create_task(recovery._restart_recovery(recovery))
    await until(lambda: rig.consumer._taking_over is not None)
    await rig.consumer.on_partitions_revoked({CLICKS, SPEND})
    rig.thread.answers.set()
    rig.owners.next_offset = {CLICKS: 120}
    recovery.signal_recovery_start.set()
    await until(lambda: rig.thread.sought)
    assert rig.thread.sought == [{CLICKS: 120}]
    recovering.cancel()


async def test_an_empty_assignment_is_told_and_seeks_nothing(rig: Rig) -> None:
    rig.thread.assigned = set()
    await rig.consumer.perform_seek()
    assert rig.owners.told == [("acquire", {})]
    assert rig.thread.sought == []


async def test_a_partition_that_could_not_be_claimed_is_not_sought(rig: Rig) -> None:
    rig.owners.next_offset = {SPEND: 7}
    await rig.consumer.perform_seek()
    assert rig.thread.sought == [{SPEND: 7}]


async def test_the_thread_knows_where_each_fetch_went_on_from(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> None:
    thread = rig.consumer._new_consumer_thread()
    coming = [{CLICKS: records(5, 6, 9)}, {CLICKS: records()}, {CLICKS: records(12)}, {CLICKS: records(7, 9)}, {CLICKS: records(500)}]

    async def fetch(*_: Any, **__: Any) -> Any:
        return coming.pop(0)

    async def seek(*_: Any) -> None:
        return None

    async def asked() -> int | None:
        found = (await thread._fetch_records(None, {CLICKS})).get(CLICKS)
        return found.since if found is not None else None

    monkeypatch.setattr(AIOKafkaConsumerThread, "_fetch_records", fetch)
    monkeypatch.setattr(AIOKafkaConsumerThread, "_seek_wait", seek)
    subscription = SubscriptionState()
    monkeypatch.setattr(thread, "_ensure_consumer", lambda: SimpleNamespace(_subscription=subscription))
    subscription.subscribe({CLICKS.topic})
    subscription.assign_from_subscribed([TopicPartition(*CLICKS)])
    await thread._seek_wait(None, {CLICKS: 3})
    assert (await asked()) == 3, "what was sought"
    assert await asked() is None
    assert (await asked()) == 10, "behind the last record"
    await thread._seek_wait(None, {CLICKS: 7})
    assert (await asked()) == 7
    subscription.assign_from_subscribed([TopicPartition(*CLICKS)])
    assert (await asked()) == 500, "assigned anew, and read from the group's offset: not where this worker was when it last had it"


async def test_going_back_is_for_assigned_partitions_only(rig: Rig) -> None:
    rig.thread.assigned = {CLICKS}
    await rig.consumer.seek_back(CLICKS, 5)
    await rig.consumer.seek_back(SPEND, 5)
    assert rig.thread.sought == [{CLICKS: 5}]


@pytest.mark.parametrize(
    ("next_offset", "highwater", "at_end", "behind"),
    [(0, None, False, 0), (0, 0, True, 0), (99, 100, False, 1), (100, 100, True, 0), (101, 100, True, 0), (0, 100, False, 100)],
)
async def test_the_end_is_what_the_last_fetch_knew(rig: Rig, next_offset: int, highwater: int | None, at_end: bool, behind: int) -> None:
    if highwater is not None:
        rig.thread.highwaters[CLICKS] = highwater
    assert rig.consumer.at_end(CLICKS, next_offset) is at_end
    assert rig.consumer.behind(CLICKS, next_offset) == behind


async def test_an_end_of_which_the_broker_has_told_nothing_for_long_is_none(rig: Rig) -> None:
    rig.thread.highwaters[CLICKS] = 100
    assert rig.consumer.at_end(CLICKS, 100)
    rig.thread.silent = True
    assert not rig.consumer.at_end(CLICKS, 100)


async def test_how_long_the_broker_has_not_answered_is_told_by_aiokafka(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = rig.consumer._new_consumer_thread()
    subscription = SubscriptionState()
    monkeypatch.setattr(thread, "_ensure_consumer", lambda: SimpleNamespace(_subscription=subscription))
    subscription.subscribe({CLICKS.topic})
    assert not thread.fetched_within(CLICKS, 5.0)
    subscription.assign_from_subscribed([TopicPartition(*CLICKS)])
    assert not thread.fetched_within(CLICKS, 5.0)
    # What its fetcher sets with every answer.
    state = subscription.subscription.assignment.state_value(TopicPartition(*CLICKS))
    for ago, fresh in ((0.0, True), (4.0, True), (6.0, False), (-3_600.0, False)):
        state.timestamp = int((time.time() - ago) * 1000)
        assert thread.fetched_within(CLICKS, 5.0) is fresh


async def test_what_a_transaction_leaves_at_the_end_does_not_wait(rig: Rig) -> None:
    rig.thread.highwaters[CLICKS] = 100
    rig.thread.nothing_between = {(99, 100)}
    assert rig.consumer.at_end(CLICKS, 99)
    assert rig.consumer.behind(CLICKS, 99) == 0
    assert rig.consumer.behind(CLICKS, 98) == 2
    assert rig.consumer.behind(CLICKS, 99, known_end=120) == 21, "the broker knows of more than the last fetch"


async def test_a_partition_that_is_gone_has_no_end(rig: Rig) -> None:
    rig.thread.highwaters = {CLICKS: 100}
    rig.thread.assigned = {SPEND}
    assert not rig.consumer.at_end(CLICKS, 100)
    assert rig.consumer.behind(CLICKS, 0) == 0


async def test_owners_let_go_before_faust_forgets_the_partitions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def forget(_: set[TP]) -> None:
        order.append(f"faust, after {[what for what, _ in rig.owners.told]}")

    monkeypatch.setattr(rig.consumer, "_on_partitions_revoked", forget)
    rig.consumer._committed_offset[CLICKS] = 5
    await rig.consumer.on_partitions_revoked({CLICKS})
    assert rig.owners.told == [("revoke", {CLICKS})]
    assert order == ["faust, after ['revoke']"]
    assert CLICKS not in rig.consumer._committed_offset

"""The consumer behind the transport.

Faust's own consumer takes a message at a time, remembers offsets in Python lists and commits what was acked. Here a message is a whole
fetched batch of one topic-partition, and only what the `Owners` have applied to the tables is committed: the offset that counts is the one
stored with the data, the committed one is a convenience for lag tools.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.tables.recovery import RebalanceAgain
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.utils.futures import notify

from streams.ingest.continuity import Committer, LogState
from streams.ingest.records import OFFSET, TIMESTAMP, Records
from streams.transport.log_states import log_states
from streams.transport.record_batches import keep_columns

log = logging.getLogger(__name__)

#: Seconds before the broker is asked again for what it did not tell.
_RETRY = 1.0
#: Seconds that Faust is kept waiting for partitions to be taken over. It gives up after `broker_request_timeout` (40 s) and then never lets
#: the worker read again, whatever is assigned to it later.
_SEEKING = 20.0
#: Seconds for which an answer of the broker says that there is nothing to read.
_FRESH = 5.0
#: Milliseconds that a broker may hold back the answer to a fetch that finds nothing. The client has one fetch at a time under way to each
#: broker: while busy partitions have records waiting here it asks for the idle ones alone, and until that is answered nothing new comes
#: for any. Faust's 1,500 cost a worker more than half of its rate as soon as one topic was busy and another was not.
FETCH_WAIT_MS = 50


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive records of one topic-partition, as fetched."""

    tp: TP
    records: Records
    #: The offset that the fetch went on from. Between it and the first record the log holds nothing: compaction, transactions and
    #: retention leave gaps. A first record before it means that the broker had nothing there and sent the fetch back.
    since: int


class Owners(Protocol):
    """Who is told of assignments, and knows what was applied."""

    @property
    def mark(self) -> str:
        """What the group's offsets are marked with when they are committed for these owners: others may set them too."""

    async def acquire(self, logs: Mapping[TP, LogState]) -> Mapping[TP, int]:
        """Take over these partitions; what the broker says of them is given. Returns the offset to read each from."""

    async def revoke(self, partitions: Iterable[TP]) -> None:
        """Let go of these partitions at once; work in hand is dropped or finished, and nothing blocks on it any more."""

    def applied(self) -> Mapping[TP, int]:
        """Offset after the last applied record, per partition that is owned or was let go of since `forget_revoked`."""

    def forget_revoked(self) -> None:
        """The last commit of what was let go of is over; another commits for it from now on."""


class OwningApp(Protocol):
    """What the consumer needs of the Faust app that it works for."""

    owners: Owners


class _Forgetful(dict[TP, Any]):
    """Read offsets that are never remembered: the owners check continuity themselves, and a seek back must not be taken for a repeat."""

    def __getitem__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: Any) -> None:
        pass


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """The thread that fetches. It notes from where each fetch goes on, in step with the seeks, which happen here too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The offset after the last record that was brought, or that was sought, and the assignment in which that was.
        self._reached: dict[TP, tuple[Any, int]] = {}

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust has no setting for it. The fetcher is made with it when the consumer starts.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        keep_columns(consumer)
        commit = consumer.commit

        async def commit_marked(offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
            await commit({tp: OffsetAndMetadata(at.offset, self._mark) for tp, at in offsets.items()})

        # Faust leaves no way to say what goes with an offset.
        consumer.commit = commit_marked
        return consumer

    @property
    def _mark(self) -> str:
        return cast(OwningApp, self.consumer.app).owners.mark

    async def _fetch_records(  # type: ignore[override]  # a list of records by annotation; handed on untouched
        self, consumer: Any, active_partitions: set[TP], timeout: float | None = None, max_records: int | None = None
    ) -> Mapping[TP, Batch]:
        fetched = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        # Nothing may be awaited from here on: the positions must be those that the fetcher itself has just gone on from.
        return {tp: self._went_on(TP(tp.topic, tp.partition), cast(Records, records)) for tp, records in fetched.items() if records}

    def _went_on(self, tp: TP, records: Records) -> Batch:
        offsets = records.column(OFFSET)
        since = self._position(tp, int(offsets[0]))
        self._reach(tp, int(offsets[-1]) + 1)
        return Batch(tp, records, since)

    def _position(self, tp: TP, unknown: int) -> int:
        """Where the next fetch goes on from. A partition that was assigned anew goes on where the group's offset is, not where it was."""
        state, offset = self._reached.get(tp, (None, unknown))
        return offset if state is not None and state is self._state(tp) else unknown

    def _reach(self, tp: TP, offset: int) -> None:
        self._reached[tp] = self._state(tp), offset

    def _state(self, tp: TP) -> Any:
        """aiokafka's state of the partition, one for each time that it is assigned; None while it is not."""
        subscription = self._ensure_consumer()._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        return assignment.state_value(tp) if assignment is not None else None

    def fetched_within(self, tp: TP, seconds: float) -> bool:
        """Whether the broker has answered a fetch of the partition, with records or without, in the last so many seconds."""
        state = self._state(tp)
        # aiokafka notes it in ms by the wall clock, which may have been set back since.
        return state is not None and state.timestamp is not None and abs(time.time() - state.timestamp / 1_000) < seconds

    def all_delivered(self, tp: TP, next_offset: int, end: int) -> bool:
        """Whether the fetcher has gone on to `end`, and no record at or after `next_offset` was brought on the way.

        What a transaction leaves at its end takes an offset and is no record: the log may end beyond the last record.
        """
        state = self._state(tp)
        reached = state.position if state is not None and state.has_valid_position else -1
        return reached >= end and next_offset >= self._position(tp, end)

    async def log_states(self, tps: Sequence[TP]) -> dict[TP, LogState]:
        """What the broker says of the partitions. Raises KafkaError."""
        found: dict[TP, LogState] = await self.call_thread(self._log_states, [TopicPartition(tp.topic, tp.partition) for tp in tps])
        return found

    async def _log_states(self, tps: Sequence[TopicPartition]) -> dict[TP, LogState]:
        consumer = self._ensure_consumer()
        states, committed = await asyncio.gather(log_states(consumer, tps), consumer._coordinator.fetch_committed_offsets(tps))
        return {
            TP(tp.topic, tp.partition): replace(state, committed=committed[tp].offset, committed_by=self._committer(committed[tp].metadata))
            if tp in committed
            else state
            for tp, state in states.items()
        }

    def _committer(self, mark: str) -> Committer:
        if not mark:
            return Committer.UNKNOWN
        return Committer.WORKER if mark == self._mark else Committer.OTHER

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        # The call seeks before it awaits anything.
        for tp, offset in partitions.items():
            self._reach(TP(tp.topic, tp.partition), offset)
        await super()._seek_wait(consumer, partitions)


class Consumer(driver.Consumer):
    """Fetches whole batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = _Forgetful()
        #: What the group has committed, as the broker said. Faust's own `_committed_offset` forgets it before the last commit of partitions
        #: that are taken away, and takes a commit that the broker refused for one that was made.
        self._group_offset: dict[TP, int] = {}
        #: Takes over what was assigned last.
        self._taking_over: asyncio.Task[None] | None = None
        #: Ends the worker because that failed when nobody waited for it any more; kept, or it might be collected before it is done.
        self._crashing: asyncio.Future[None] | None = None

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    @property
    def _owners(self) -> Owners:
        return cast(OwningApp, self.app).owners

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield one message per topic-partition: its value is a `Batch`, its offset that of the last record."""
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]  # mode's own Event by name, asyncio's in fact
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        for tp, batch in records.items():
            if not self.flow_active:
                # A rebalance is under way: the owners will be told where to read from.
                return
            if active is None or tp in active:
                yield tp, self._batch_message(cast(Batch, batch))

    def _batch_message(self, batch: Batch) -> ConsumerMessage:
        tp, records = batch.tp, batch.records
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            int(records.column(OFFSET)[-1]),
            int(records.column(TIMESTAMP)[-1]) / 1000.0,
            0,
            [],
            None,
            batch,  # type: ignore[arg-type]  # bytes by annotation; handed on untouched to topics that are "raw"
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Read on from where the tables are. Faust calls this after every assignment, just before the flow resumes.

        A broker or Redis that keeps silent holds up the flow for a while only: what cannot be taken over in time is so later. Until then
        nobody owns it, and what is fetched of it is dropped.
        """
        await self._take_over_no_more()
        taking_over = self._taking_over = asyncio.create_task(self._take_over(), name="taking over what was assigned")
        try:
            done, _ = await asyncio.wait({taking_over}, timeout=_SEEKING)
        except asyncio.CancelledError:
            taking_over.cancel()
            raise
        if taking_over.cancelled():
            # Else Faust's own task would end as cancelled too. This it takes for what it is, and waits for the next assignment.
            raise RebalanceAgain
        if done:
            taking_over.result()
        else:
            log.warning("what was assigned could not be taken over within %.0f s; trying on", _SEEKING)
            taking_over.add_done_callback(self._taken_over_late)

    def _taken_over_late(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashing = asyncio.ensure_future(self.crash(error))

    async def _take_over_no_more(self) -> None:
        """What is assigned changes, or all ends."""
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.wait({self._taking_over})

    async def _take_over(self) -> None:
        assigned = [TP(tp.topic, tp.partition) for tp in self.assignment()]
        states = await self._log_states_once_told(assigned) if assigned else {}
        if states is None:
            return
        self._group_offset.update({tp: state.committed for tp, state in states.items()})
        positions = await self._owners.acquire(states)
        if positions:
            await self._thread.seek_wait(positions)

    async def _log_states_once_told(self, assigned: Sequence[TP]) -> Mapping[TP, LogState] | None:
        """Asks until the broker answers; None if other partitions are assigned by then, for which it will be asked anew."""
        while not self.should_stop:
            try:
                states = await self._worker_thread.log_states(assigned)
                return states if self._still_assigned(assigned) else None
            except KafkaError as error:
                if not self._still_assigned(assigned):
                    return None
                log.warning("the broker does not tell about the assigned partitions (%r); asking again", error)
                await asyncio.sleep(_RETRY)
        return None

    def _still_assigned(self, partitions: Sequence[TP]) -> bool:
        return {TP(tp.topic, tp.partition) for tp in self.assignment()} == set(partitions)

    @property
    def _worker_thread(self) -> ConsumerThread:
        return cast(ConsumerThread, self._thread)

    def committed(self, tp: TP) -> int:
        """The group's offset as last committed from here or told by the broker, -1 before that."""
        return self._group_offset.get(tp, -1)

    async def seek_back(self, tp: TP, offset: int) -> None:
        """Read a partition again from `offset`."""
        if tp in self.assignment():
            await self._thread.seek_wait({tp: offset})

    def at_end(self, tp: TP, next_offset: int) -> bool:
        """Whether a fetch of the last seconds said that there is nothing at or after `next_offset`.

        What an older one said says nothing of now: there may be events that a broker which is away does not tell of.
        """
        return self._worker_thread.fetched_within(tp, _FRESH) and not self.behind(tp, next_offset)

    def behind(self, tp: TP, next_offset: int, known_end: int = 0) -> int:
        """Offsets at or after `next_offset`, up to the end of the log as of the last fetch or as the caller knows it."""
        end = max(self._highwater(tp) or 0, known_end)
        if next_offset >= end or self._worker_thread.all_delivered(tp, next_offset, end):
            return 0
        return end - next_offset

    def _highwater(self, tp: TP) -> int | None:
        highwater: int | None = self.highwater(tp) if tp in self.assignment() else None
        return highwater

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Faust seeks nothing where nothing was assigned, but the owners wait to be told their part."""
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:
            await self._owners.acquire({})

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """The owners let go first: nothing may wait for partitions that are gone."""
        await self._take_over_no_more()
        await self._owners.revoke(revoked)
        await super().on_partitions_revoked(revoked)
        # A member that was given up, because it stood still, and joins again would set back what its successor committed meanwhile.
        self._owners.forget_revoked()

    async def on_stop(self) -> None:
        """Whatever is still to be taken over is the next worker's."""
        await self._take_over_no_more()
        await super().on_stop()

    # What Faust's consumer does per message is done per batch by the owners.

    def ack(self, message: Message) -> bool:
        """Note that the agent is done with a batch."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        # Tables that fell back must not make the group's offsets fall back: those who look at them would think that somebody moved them.
        return {tp: offset for tp, offset in self._owners.applied().items() if offset > max(0, self.committed(tp))}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        if done := await super()._commit(offsets):
            self._group_offset.update(offsets)
        return bool(done)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Offsets without records (compaction, transactions) need no bookkeeping here."""

    def on_buffer_full(self, tp: TP) -> None:
        """A queue that is full holds the fetcher back by itself; taking the partition out would stop it for a second."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See on_buffer_full."""


class Transport(driver.Transport):
    """Kafka by aiokafka, in whole batches."""

    Consumer: ClassVar[type[Consumer]] = Consumer

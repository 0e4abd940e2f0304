"""The whole log, read for a rebuild: every partition of every input topic, by a consumer that is in no group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.config import INPUT_TOPICS, Settings, Topic
from streams.events.refusal import Refusal
from streams.ingest.continuity import LogState
from streams.ingest.owner import KafkaFailure, PartitionOwner
from streams.ingest.records import OFFSET, Record
from streams.kafka import connection
from streams.producing import Sender, SendError
from streams.quarantine.record import Located, quarantine_record
from streams.tables.store import PartitionStore
from streams.transport.log_states import log_states
from streams.transport.record_batches import keep_columns
from streams.transport.topic_metadata import topic_metadata

log = logging.getLogger(__name__)

#: Milliseconds that a fetch waits for records.
_WAIT_MS = 500


class LogSource:
    """`async with LogSource(settings) as source:` reads all input topics. Kafka errors pass through where nothing else is said."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = AIOKafkaConsumer(
            **connection(settings.kafka),
            group_id=None,
            client_id="campaignwatch-rebuild",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        keep_columns(self._consumer)
        self._topics = {settings.topic(topic): topic for topic in INPUT_TOPICS}
        self._positions: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> LogSource:
        await self._consumer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def partitions(self) -> dict[TopicPartition, Topic]:
        """Every partition of the input topics, which are assigned to this source from now on."""
        known = await topic_metadata(self._consumer._client, self._topics)
        found = {
            TopicPartition(name, number): topic
            for name, topic in self._topics.items()
            for number in range(known[name].partitions if name in known else len(self._consumer.partitions_for_topic(name) or ()))
        }
        self._consumer.assign(list(found))
        return found

    async def states(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogState]:
        """Where the log of each partition begins and ends."""
        return await log_states(self._consumer, partitions)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        """Read a partition from `offset` on."""
        self._consumer.seek(tp, offset)
        self._positions[tp] = offset

    async def feed(self, owners: Mapping[TopicPartition, PartitionOwner]) -> None:
        """Hand every owner what its partition holds, until cancelled. Kafka being away is waited out."""
        while True:
            try:
                fetched = await self._consumer.getmany(timeout_ms=_WAIT_MS)
            except KafkaError as error:
                log.warning("the log cannot be read at present (%r); trying again", error)
                await asyncio.sleep(_WAIT_MS / 1_000)
                continue
            # Before anything is awaited: an owner that seeks back while another takes its records must not be handed its own as if they
            # went on from there.
            went_on = {tp: self._positions[tp] for tp in fetched}
            self._positions |= {tp: int(records.column(OFFSET)[-1]) + 1 for tp, records in fetched.items()}
            for tp, records in fetched.items():
                await owners[tp].take(records, went_on[tp])
            await asyncio.sleep(0)

    async def read_to(self, tp: TopicPartition, end: int) -> bool:
        """Whether everything before `end` has been handed on; what transactions leave at the end of a log is no record."""
        return self._positions[tp] >= end or int(await self._consumer.position(tp)) >= end


class PartitionSource:
    """The log, as one owner sees it."""

    def __init__(
        self, source: LogSource, tp: TopicPartition, in_use: PartitionStore, sender: Sender, quarantine: str, clock: Callable[[], float]
    ) -> None:
        """`in_use`: the tables that workers write meanwhile. `quarantine`: the name of that topic."""
        self._source = source
        self._tp = tp
        self._in_use = in_use
        self._sender = sender
        self._quarantine = quarantine
        self._clock = clock

    async def state(self) -> LogState:
        """Where the log of the partition begins and ends. Raises KafkaFailure."""
        try:
            return (await self._source.states([self._tp]))[self._tp]
        except KafkaError as error:
            raise KafkaFailure(f"{self._tp.topic}:{self._tp.partition}: {error}") from error

    def committed(self) -> int:
        """A rebuild is in no group."""
        return -1

    async def seek_back(self, offset: int) -> None:
        """Read on from `offset`."""
        self._source.seek(self._tp, offset)

    def at_end(self, next_offset: int) -> bool:
        """Workers will say that, once the tables are theirs."""
        return False

    async def quarantine(self, refused: Sequence[tuple[Record, Refusal]]) -> None:
        """Write what no worker has written there: whoever takes over these tables goes on behind it. Raises KafkaFailure.

        A worker writes before it applies, so that what the tables in use have applied lies there already.
        """
        state, meta = await self.state(), await self._in_use.meta()
        same_log = meta.topic_id in ("", state.topic_id) or not state.topic_id
        written = meta.applied_offset if same_log and meta.applied_offset < state.end else -1
        now = datetime.fromtimestamp(self._clock(), UTC)
        at = self._tp
        records = [quarantine_record(Located.at(at.topic, at.partition, r), refusal, now) for r, refusal in refused if r.offset > written]
        try:
            if records:
                await self._sender.send(self._quarantine, records)
        except SendError as error:
            raise KafkaFailure(str(error)) from error

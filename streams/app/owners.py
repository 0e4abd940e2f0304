"""All partitions that this worker owns: between Faust, which assigns them, and the owners, who do the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP
from redis.asyncio import Redis

from streams.app.ends import LogEnds
from streams.config import INPUT_TOPICS, Settings, Topic
from streams.events.refusal import Refusal
from streams.ingest.continuity import LogState
from streams.ingest.owner import KafkaFailure, PartitionOwner, share_beside
from streams.ingest.records import Record
from streams.kafka import connection
from streams.metrics.ingest import IngestMetrics
from streams.quarantine.record import Located, quarantine_record
from streams.tables.generations import PartitionTables
from streams.transport import Batch, Consumer

log = logging.getLogger(__name__)


class AssignedPartitions:
    """The `Owners` of the transport."""

    def __init__(
        self, settings: Settings, redis: Redis, producer: AIOKafkaProducer, metrics: IngestMetrics, *, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._redis = redis
        self._producer = producer
        self.metrics = metrics
        self._clock = clock
        self._owners: dict[TP, PartitionOwner] = {}
        self._left: dict[TP, int] = {}
        self.ends = LogEnds(connection(settings.kafka), lambda: self._owners, clock=clock)
        self._topics = {settings.topic(topic): topic for topic in INPUT_TOPICS}
        #: Set by the app once Faust has made its consumer.
        self.consumer: Callable[[], Consumer] | None = None
        #: Since when this worker waits for Kafka to assign partitions, epoch s; None while it is a member that knows its part, be it none.
        self._waits_since: float | None = clock()

    @property
    def mark(self) -> str:
        """The namespace of the tables that are written: a worker of another one goes on at other offsets."""
        return self._settings.redis.namespace

    def __len__(self) -> int:
        return len(self._owners)

    def all(self) -> list[PartitionOwner]:
        """The owners of all assigned partitions."""
        return list(self._owners.values())

    async def acquire(self, logs: Mapping[TP, LogState]) -> Mapping[TP, int]:
        """Claim the partitions, which are all that this worker has now, and load their state, all at once.

        Those that take longer than a call of Redis may, and all if Faust gives up waiting (another assignment), go on by themselves.
        """
        self._waits_since = None
        await self.release([tp for tp in self._owners if tp not in logs])
        self.forget_revoked()
        owners = {tp: self._owners.get(tp) or self._new_owner(tp) for tp in logs if tp.topic in self._topics}
        self._owners |= owners
        starting = [asyncio.create_task(owner.start(logs[tp])) for tp, owner in owners.items()]
        late = list(owners.values())
        try:
            if starting:
                await asyncio.wait(starting, timeout=self._settings.redis.timeout)
            late = [owner for owner in owners.values() if not owner.started]
            return {tp: owner.next_offset for tp, owner in owners.items() if owner.started}
        finally:
            for task in starting:
                task.cancel()
            for owner in late:
                owner.seek_itself()

    async def release(self, partitions: Iterable[TP], *, finish: bool = False) -> None:
        """Let go of the partitions."""
        gone = {tp: self._owners.pop(tp) for tp in (TP(tp.topic, tp.partition) for tp in partitions) if tp in self._owners}
        await asyncio.gather(*(owner.release(finish=finish) for owner in gone.values()))
        self._left |= {tp: owner.next_offset for tp, owner in gone.items()}

    async def revoke(self, partitions: Iterable[TP]) -> None:
        """Let go of the partitions, since Kafka is about to assign all anew."""
        self._waits_since = self._clock()
        await self.release(partitions)

    def forget_revoked(self) -> None:
        """Have `applied` name what is owned only: the last commit of the others is over."""
        self._left.clear()

    async def release_all(self) -> None:
        """Apply what is pending, then let go of everything."""
        await self.release(list(self._owners), finish=True)

    def applied(self) -> Mapping[TP, int]:
        """Offset after the last applied record, per partition; also of those just let go of, for the last commit."""
        return self._left | {tp: owner.next_offset for tp, owner in self._owners.items()}

    async def take(self, batch: Batch) -> None:
        """Hand a fetched batch to its owner. Batches of partitions not owned are dropped: their owner reads them again."""
        owner = self._owners.get(batch.tp)
        if owner is not None:
            await owner.take(batch.records, batch.since)

    # What the pages say.

    @property
    def loaded(self) -> bool:
        """Kafka has said which partitions are this worker's, each is claimed and its state loaded."""
        return self._waits_since is None and all(owner.next_offset >= 0 for owner in self._owners.values())

    def outside(self) -> bool:
        """Whether this worker waits for partitions longer than `streams.stuck_after` seconds although the broker answers."""
        oldest = self._clock() - self._settings.streams.stuck_after
        return self._waits_since is not None and self._waits_since < oldest and self.ends.answered_at > oldest

    def lag(self) -> int:
        """Records that are known to wait in the owned partitions."""
        return sum(lag for _, lag in self._lags())

    def hindered(self) -> dict[str, str]:
        """Partitions whose owner waits for Redis or Kafka, and what it cannot do."""
        return {f"{tp.topic}:{tp.partition}": owner.hindered for tp, owner in self._owners.items() if owner.hindered is not None}

    def stuck(self) -> list[str]:
        """Partitions with records waiting in which nothing was applied for `streams.stuck_after` seconds, for no reason outside."""
        oldest = self._clock() - self._settings.streams.stuck_after
        return [
            f"{tp.topic}:{tp.partition}"
            for tp, lag in self._lags()
            if lag and self._owners[tp].progress_at < oldest and self._owners[tp].hindered is None
        ] + [
            f"{tp.topic}:{tp.partition}"
            for tp, owner in self._owners.items()
            if owner.next_offset < 0 and owner.progress_at < oldest and owner.hindered is None
        ]

    def update_gauges(self) -> None:
        """Bring the gauges that change with time up to date."""
        lateness, idle = (int(seconds * 1000) for seconds in (self._settings.streams.lateness, self._settings.streams.idle_timeout))
        for tp, lag in self._lags():
            self.metrics.lag.labels(tp.topic, str(tp.partition)).set(lag)
            meta = self._owners[tp].meta
            watermark = meta.watermark(lateness, idle) if meta is not None else None
            if watermark is not None:
                self.metrics.watermark.labels(tp.topic, str(tp.partition)).set(watermark / 1000)

    def _lags(self) -> list[tuple[TP, int]]:
        consumer = self.consumer() if self.consumer is not None else None
        if consumer is None:
            return []
        return [
            (tp, consumer.behind(tp, owner.next_offset, self.ends.of(tp))) for tp, owner in self._owners.items() if owner.next_offset >= 0
        ]

    def _new_owner(self, tp: TP) -> PartitionOwner:
        return PartitionOwner(
            self._topics[tp.topic],
            self._settings,
            PartitionTables(self._redis, self._settings, tp.topic, tp.partition),
            _PartitionLog(self, tp),
            self.metrics,
            clock=self._clock,
            share=share_beside(self._owners, tp, self._settings.streams),
        )

    async def quarantine(self, refused: Sequence[tuple[Located, Refusal]]) -> None:
        """Write refused records and wait until Kafka has them."""
        topic = self._settings.topic(Topic.QUARANTINE)
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            written = (quarantine_record(record, refusal, now) for record, refusal in refused)
            await asyncio.gather(*[await self._producer.send(topic, value, key=key) for key, value in written])
        except KafkaError as error:
            raise KafkaFailure(f"{topic}: {error}") from error


class _PartitionLog:
    """Kafka, as one owner sees it."""

    def __init__(self, partitions: AssignedPartitions, tp: TP) -> None:
        self._partitions = partitions
        self._tp = tp

    def _consumer(self) -> Consumer:
        assert self._partitions.consumer is not None
        return self._partitions.consumer()

    async def state(self) -> LogState:
        try:
            return await self._partitions.ends.state(self._tp)
        except KafkaError as error:
            raise KafkaFailure(f"{self._tp.topic}:{self._tp.partition}: {error}") from error

    def committed(self) -> int:
        return self._consumer().committed(self._tp)

    async def seek_back(self, offset: int) -> None:
        await self._consumer().seek_back(self._tp, offset)

    def at_end(self, next_offset: int) -> bool:
        return self._consumer().at_end(self._tp, next_offset)

    async def quarantine(self, refused: Sequence[tuple[Record, Refusal]]) -> None:
        at = self._tp
        await self._partitions.quarantine([(Located.at(at.topic, at.partition, record), refusal) for record, refusal in refused])

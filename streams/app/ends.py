"""Where the log ends and which topics it has, asked of the broker apart from the fetcher.

A consumer that silently fetches nothing any more would also never hear of new records, and look idle. Asking the broker itself tells a
worker that stands still from one that has nothing to do.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError
from faust.types import TP

from streams.ingest.continuity import LogState
from streams.transport.log_states import log_states
from streams.transport.topic_metadata import TopicMetadata, topic_metadata

log = logging.getLogger(__name__)

#: Seconds between two questions.
_EVERY = 10.0


class LogEnds:
    """The newest known end of each partition that `wanted` names: the offset after its last record.

    `connection` is that of `streams.kafka`.
    """

    def __init__(self, connection: Mapping[str, Any], wanted: Callable[[], Iterable[TP]], *, clock: Callable[[], float]) -> None:
        self._connection = connection
        self._wanted = wanted
        self._clock = clock
        #: When the broker last answered, epoch s.
        self.answered_at = 0.0
        self._ends: dict[TP, int] = {}
        #: The topics of the wanted partitions, as the broker last had them.
        self.topics: dict[str, TopicMetadata] = {}
        self._consumer: AIOKafkaConsumer | None = None

    def of(self, tp: TP) -> int:
        """The end as of the last answer, 0 before any. A broker may name one that is a batch too low, none names one too high."""
        return self._ends.get(tp, 0)

    async def state(self, tp: TP) -> LogState:
        """Where the log of a partition begins and ends now. Raises KafkaError.

        The fetcher's own connection would be slow to tell: it is taken up by fetches that wait for records.
        """
        consumer = self._consumer
        if consumer is None:
            raise KafkaConnectionError("not connected at present")
        partition = TopicPartition(tp.topic, tp.partition)
        return (await log_states(consumer, [partition]))[partition]

    async def run(self) -> None:
        """Ask again and again until cancelled. The broker being away leaves what was known."""
        while True:
            try:
                await self._ask_on()
            except (KafkaError, OSError) as error:
                log.debug("the ends of the partitions cannot be asked for: %s", error)
            except Exception:
                # Owners that claim their partition again ask here: without it they would wait for ever.
                log.exception("asking where the partitions end failed; asking again")
            await asyncio.sleep(_EVERY)

    async def _ask_on(self) -> None:
        consumer = AIOKafkaConsumer(**self._connection, client_id="campaignwatch-ends", group_id=None)
        try:
            await consumer.start()
            self._consumer = consumer
            while True:
                partitions = [TopicPartition(tp.topic, tp.partition) for tp in self._wanted()]
                found = await consumer.end_offsets(partitions) if partitions else {}
                if partitions or await consumer.topics():
                    self.answered_at = self._clock()
                self.topics = await topic_metadata(consumer._client, {tp.topic for tp in partitions}) if partitions else {}
                self._ends = {TP(tp.topic, tp.partition): end for tp, end in found.items()}
                await asyncio.sleep(_EVERY)
        finally:
            self._consumer = None
            await consumer.stop()

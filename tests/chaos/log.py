"""The truth: what the log holds, read by a consumer of the harness's own, with the record times that the broker gave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streams.config import INPUT_TOPICS, Settings, Topic
from streams.transport.topic_metadata import topic_metadata
from tests.reference import LogRecord

_WITHIN = 60.0


class LogReader:
    """Reads on from where it was, to the end. Broker's answers about ends are not trusted: the highwater of a fetch is."""

    def __init__(self, settings: Settings, bootstrap_servers: str, topics: Mapping[Topic, int]) -> None:
        self._servers = bootstrap_servers
        self._topic_of = {settings.topic(topic): topic for topic in topics}
        #: The next offset of each partition.
        self.position = {TopicPartition(settings.topic(topic), number): 0 for topic, count in topics.items() for number in range(count)}

    async def more(self) -> list[tuple[Topic, LogRecord]]:
        """Records since the last call, per topic-partition in offset order. Nobody may be producing. Raises TimeoutError."""
        deadline = time.monotonic() + _WITHIN
        while True:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    return await self._more()
            except (KafkaError, OSError) as error:
                if isinstance(error, TimeoutError) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)

    async def _more(self) -> list[tuple[Topic, LogRecord]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._servers, client_id="chaos-log", group_id=None, auto_offset_reset="earliest")
        await consumer.start()
        found: list[tuple[Topic, LogRecord]] = []
        position = dict(self.position)
        try:
            for name, known in (await topic_metadata(consumer._client, self._topic_of)).items():
                # Of those that were added meanwhile.
                position = {TopicPartition(name, number): 0 for number in range(known.partitions)} | position
            consumer.assign(list(position))
            for partition, offset in position.items():
                consumer.seek(partition, offset)
            while True:
                for partition, records in (await consumer.getmany(timeout_ms=200)).items():
                    topic = self._topic_of[partition.topic]
                    found += [(topic, LogRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value)) for r in records]
                for partition in position:
                    position[partition] = await consumer.position(partition)
                ends = {partition: consumer.highwater(partition) for partition in position}
                if all(end is not None and position[partition] >= end for partition, end in ends.items()):
                    self.position = position
                    return found
        finally:
            await consumer.stop()


def log_reader(settings: Settings, bootstrap_servers: str) -> LogReader:
    """Of the topics that the product reads."""
    return LogReader(settings, bootstrap_servers, dict.fromkeys(INPUT_TOPICS, settings.kafka.partitions))


def quarantine_reader(settings: Settings, bootstrap_servers: str) -> LogReader:
    """Of the quarantine topic."""
    return LogReader(settings, bootstrap_servers, {Topic.QUARANTINE: 1})


def alerts_reader(settings: Settings, bootstrap_servers: str) -> LogReader:
    """Of the topic that incidents are told on."""
    return LogReader(settings, bootstrap_servers, {Topic.ALERTS: 1})

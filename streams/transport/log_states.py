"""Where the log of each partition begins and ends, asked of the broker through any consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.ingest.continuity import LogState
from streams.transport.topic_metadata import topic_metadata


async def log_states(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, LogState]:
    """The state of each partition's log, without the group's offset. Raises KafkaError."""
    # At once: each question alone would wait behind a fetch that waits for records.
    topics, earliest, end = await asyncio.gather(
        topic_metadata(consumer._client, {tp.topic for tp in partitions}),
        consumer.beginning_offsets(list(partitions)),
        consumer.end_offsets(list(partitions)),
    )
    ids = {name: topic.topic_id for name, topic in topics.items()}
    return {tp: LogState(earliest[tp], end[tp], topic_id=ids.get(tp.topic, "")) for tp in partitions}

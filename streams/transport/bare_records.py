"""Fetched records as the decoder of the wire format made them: offset, timestamp, key, value and headers, without topic and partition.

aiokafka makes a ConsumerRecord of eleven fields of every one, which takes longer than fetching it did; a worker has them by partition
anyway. The library has no switch for it, so its method is replaced by one that looks which consumer it works for.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import PartitionRecords

_consumer_record = PartitionRecords._consumer_record


def _as_it_came(value: bytes | None) -> bytes | None:
    """Marks consumers whose records stay as they are."""
    return value


def _record(self: Any, tp: Any, record: Any) -> Any:
    return record if self._value_deserializer is _as_it_came else _consumer_record(self, tp, record)


PartitionRecords._consumer_record = _record


def keep_bare(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer, which is not started yet, hand on bare records."""
    consumer._value_deserializer = _as_it_came

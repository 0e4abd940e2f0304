"""Fetched records as the decoder of the wire format made them: offset, timestamp, key, value and headers, without topic and partition.

aiokafka makes a ConsumerRecord of eleven fields of every one, and goes through four calls of Python for it, which takes longer than
fetching did; a worker has its records by partition and by whole batches anyway. The library has no switch for it, so its method is replaced
by one that looks which consumer it works for.
"""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException

_getall = FetchResult.getall


def _as_it_came(value: bytes | None) -> bytes | None:
    """Marks consumers whose records stay as they are."""
    return value


def _bare(self: Any, max_records: int | None = None) -> list[Any]:
    fetched = self._partition_records
    if max_records is not None or fetched is None or fetched._value_deserializer is not _as_it_came:
        return list(_getall(self, max_records))
    if not self.check_assignment(self._topic_partition):
        return []
    # The library's own generator, which is not asked, and what was fetched refer to each other: a megabyte for the garbage collector.
    fetched._records_iterator = None
    records = _records_of(fetched)
    self._update_position()
    self._partition_records = None
    return records


def _records_of(fetched: Any) -> list[Any]:
    """All records of a fetch from where it was to go on. Those of transactions too, whether they were committed or not."""
    found: list[Any] = []
    while fetched._records.has_next():
        batch = fetched._records.next_batch()
        if fetched._check_crcs and not batch.validate_crc():
            raise CorruptRecordException(f"{fetched._tp}: a fetched batch is damaged")
        if not batch.is_control_batch:
            came = list(batch)
            # A fetch brings whole batches, and may begin in the middle of one.
            if came and came[0].offset < fetched.next_fetch_offset:
                came = [record for record in came if record.offset >= fetched.next_fetch_offset]
            found += came
        fetched.next_fetch_offset = batch.next_offset
    return found


FetchResult.getall = _bare


def keep_bare(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer, which is not started yet, hand on bare records. It must read what is not committed too, as is the default."""
    consumer._value_deserializer = _as_it_came

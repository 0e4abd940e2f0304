"""What a fetch brought, as `Records`: the batches that the broker stores, read where they lie by a compiled loop.

aiokafka makes an object of every record and a second one of eleven fields, which takes longer than fetching did. It has no switch for it,
so its method is replaced by one that looks which consumer it works for. What is rare is left to the library: compressed batches are
uncompressed by it, and those of formats before Kafka 0.11 read. The format: https://kafka.apache.org/documentation/#recordbatch.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.legacy_records import _LegacyRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy
from crc32c import crc32c
from numpy.typing import NDArray

from streams.compiled import compiled, compiled_for_any
from streams.ingest.records import KEY_START, KEY_STOP, NOTHING, OFFSET, TIMESTAMP, VALUE_START, VALUE_STOP, Record, Records

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

#: Base offset, length of what follows, epoch of the leader, format; the same in every format.
_BEGINNING = struct.Struct(">qiib")
#: The rest of a header: checksum, attributes, last offset delta, first and last timestamp, producer (three fields), records.
_HEADER = struct.Struct(">Ihiqqqhii")
_COUNTED_FROM = struct.calcsize(">qi")
_CHECKED_FROM = struct.calcsize(">qiibI")
_COMPRESSED, _APPEND_TIME, _CONTROL = 0x07, 0x08, 0x20
_WITH_HEADER = 2

_getall = FetchResult.getall
# The library's own in Python, which keeps the bytes where they can be got at; both hand on the same batches.
fetcher.MemoryRecords = _MemoryRecordsPy


def _as_it_came(value: bytes | None) -> bytes | None:
    """Marks consumers whose fetches become `Records`."""
    return value


def keep_columns(consumer: AIOKafkaConsumer) -> None:
    """Have the consumer, which is not started yet, hand on `Records`. It must read what is not committed too, as is the default."""
    consumer._value_deserializer = _as_it_came


def _columns(self: Any, max_records: int | None = None) -> Any:
    fetched = self._partition_records
    if fetched is None:
        return []  # found to be damaged before; the library asks once more, and then lets go of it
    if max_records is not None or fetched._value_deserializer is not _as_it_came:
        return _getall(self, max_records)
    if not self.check_assignment(self._topic_partition):
        return []
    # The library's own generator, which is not asked, and what was fetched refer to each other: a megabyte for the garbage collector.
    fetched._records_iterator = None
    try:
        records, after = records_of(fetched._records._buffer, fetched.next_fetch_offset, check=fetched._check_crcs)
    except CorruptRecordException as error:
        # Nothing of it counts as read, so that it is fetched again.
        self._partition_records = None
        raise CorruptRecordException(f"{fetched._tp}: {error}") from error
    fetched.next_fetch_offset = after
    self._update_position()
    self._partition_records = None
    return records


FetchResult.getall = _columns


def records_of(fetched: bytes, since: int, *, check: bool = True) -> tuple[Records, int]:
    """All records from the offset `since` on, and the offset to go on from. Those of transactions too, whether committed or not.

    What a broker sends may begin before `since`, with the batch that it is in, and end within a batch, which is left out.
    Raises CorruptRecordException, and UnsupportedCodecError for a codec that this version does not know.
    """
    parts: list[Records] = []
    goes_on = since
    at = 0
    while at + _BEGINNING.size <= len(fetched):
        _, length, _, version = _BEGINNING.unpack_from(fetched, at)
        end = at + _COUNTED_FROM + length
        if end > len(fetched):
            break
        records, goes_on = (_plain if version < _WITH_HEADER else _headed)(fetched, at, end, check)
        parts.append(records.at_or_after(since))
        at = end
    return Records.joined(parts), max(since, goes_on)


def _plain(fetched: bytes, at: int, end: int, check: bool) -> tuple[Records, int]:
    """A message of the formats before record batches."""
    batch = _LegacyRecordBatchPy(fetched[at:end], _BEGINNING.unpack_from(fetched, at)[-1])
    if check and not batch.validate_crc():
        raise CorruptRecordException(f"what was fetched is damaged before offset {batch.next_offset}")
    # The oldest have no time.
    records = Records.of(Record(r.offset, NOTHING if r.timestamp is None else r.timestamp, r.key, r.value) for r in batch)
    return records, batch.next_offset


def _headed(fetched: bytes, at: int, end: int, check: bool) -> tuple[Records, int]:
    base = _BEGINNING.unpack_from(fetched, at)[0]
    start = at + _BEGINNING.size + _HEADER.size
    if start > end:
        raise CorruptRecordException(f"the batch at offset {base} is too short")
    crc, attributes, last, first_time, last_time, *_, count = _HEADER.unpack_from(fetched, at + _BEGINNING.size)
    if check and crc32c(memoryview(fetched)[at + _CHECKED_FROM : end]) != crc:
        raise CorruptRecordException(f"the batch at offset {base} is damaged")
    if attributes & _CONTROL:
        return Records.joined([]), base + last + 1
    content, stop = fetched, end
    if attributes & _COMPRESSED:
        content = _uncompressed(memoryview(fetched)[at:end])
        start, stop = 0, len(content)
    if not 0 <= count <= stop - start:
        raise CorruptRecordException(f"the batch at offset {base} cannot hold {count} records")
    columns = np.empty((6, count), np.int64)
    append_time = last_time if attributes & _APPEND_TIME else NOTHING
    if _read(columns[OFFSET], columns, np.frombuffer(content, np.uint8), start, stop, base, first_time, append_time) != stop:
        raise CorruptRecordException(f"the batch at offset {base} has no records where they should be")
    return Records(content, columns), base + last + 1


def _uncompressed(batch: memoryview) -> bytes:
    opened = _DefaultRecordBatchPy(batch)
    try:
        opened._maybe_uncompress()
    except UnsupportedCodecError:
        raise
    except Exception as error:  # each codec has its own
        raise CorruptRecordException(f"the batch at offset {opened.base_offset} cannot be uncompressed: {error}") from error
    return bytes(opened._buffer)


@compiled
def _varint(buffer: Bytes, at: int, stop: int) -> tuple[int, int]:
    """A number of the format and where it ends, -1 where there is none."""
    value, shift = np.uint64(0), np.uint64(0)
    while at < stop and shift < np.uint64(64):
        byte = buffer[at]
        at += 1
        value |= np.uint64(byte & 0x7F) << shift
        if byte < 0x80:
            number: Any = np.int64((value >> np.uint64(1)) ^ (np.uint64(0) - (value & np.uint64(1))))
            return number, at
        shift += np.uint64(7)
    return 0, -1


@compiled_for_any
def _read(offsets: Ints, columns: Ints, buffer: Bytes, at: int, stop: int, base: int, first_time: int, append_time: int) -> int:
    """Fill the columns, of which `offsets` is the first. Returns where the last record ends, -1 where it is not what it should be."""
    for i in range(len(offsets)):
        length, at = _varint(buffer, at, stop)
        if at < 0 or length < 1 or length > stop - at:
            return -1
        end = at + length
        time, at = _varint(buffer, at + 1, end)
        if at < 0:
            return -1
        offset, at = _varint(buffer, at, end)
        if at < 0:
            return -1
        offsets[i] = base + offset
        columns[TIMESTAMP, i] = append_time if append_time != NOTHING else first_time + time
        for first, last in ((KEY_START, KEY_STOP), (VALUE_START, VALUE_STOP)):
            size, at = _varint(buffer, at, end)
            if at < 0 or size > end - at:
                return -1
            if size < 0:
                columns[first, i] = columns[last, i] = NOTHING
            else:
                columns[first, i], columns[last, i] = at, at + size
                at += size
        # Headers are not asked for.
        at = end
    return at

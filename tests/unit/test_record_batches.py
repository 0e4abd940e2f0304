"""What a fetch brought becomes the records that the library would have made of it, whatever producer and broker stored it."""

from __future__ import annotations

import asyncio
import gc
import itertools
import struct
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.ingest.records import Records
from streams.transport.record_batches import keep_columns, records_of

NOW = 1_790_000_000_000


async def _consumers() -> tuple[AIOKafkaConsumer, AIOKafkaConsumer]:
    plain, marked = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1"), AIOKafkaConsumer(bootstrap_servers="127.0.0.1:1")
    keep_columns(marked)
    return plain, marked


#: One as the library has it, and one that is marked. Neither is ever started, so that there is nothing to close.
PLAIN, MARKED = asyncio.run(_consumers())
PLAIN._closed = MARKED._closed = True


class Assigned:
    """An assignment in which a partition is read from an offset on."""

    active = True
    paused = False

    def __init__(self, position: int) -> None:
        self.position = position

    def state_value(self, _tp: TopicPartition) -> Assigned:
        return self

    def consumed_to(self, position: int) -> None:
        self.position = position


@dataclass(frozen=True)
class Sent:
    """A batch as a producer and the broker make it, offsets from `base` on."""

    records: Sequence[tuple[bytes | None, bytes | None]]
    base: int
    #: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    codec: int = 0
    version: int = 2
    control: bool = False
    #: Set by the broker, ms.
    append_time: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()

    def stored(self) -> bytes:
        if self.version < 2:
            builder: Any = LegacyRecordBatchBuilder(self.version, self.codec, 1 << 20)
            for i, (key, value) in enumerate(self.records):
                builder.append(i if self.version and self.codec else self.base + i, NOW + i, key, value)
            batch = bytearray(builder.build())
            if self.codec:
                # What is compressed is one message around the others, and has the offset of the last.
                batch[:8] = struct.pack(">q", self.base + len(self.records) - 1)
            return bytes(batch)
        builder = DefaultRecordBatchBuilder(2, self.codec, False, -1, -1, -1, 1 << 20)
        for i, (key, value) in enumerate(self.records):
            builder.append(i, NOW - 7 * i, key, value, list(self.headers))
        batch = bytearray(builder.build())
        batch[:8] = struct.pack(">q", self.base)
        if self.control:
            batch[22] |= 0x20
        if self.append_time is not None:
            batch[22] |= 0x08
            batch[35:43] = struct.pack(">q", self.append_time)
        batch[17:21] = struct.pack(">I", calc_crc32c(bytes(batch[21:])))
        return bytes(batch)


def stored(*sizes: int) -> bytes:
    """Batches of so many records each, offsets from 0."""
    ends = itertools.accumulate(sizes)
    return b"".join(Sent([(b"c-1", b"%d" % i) for i in range(size)], end - size).stored() for size, end in zip(sizes, ends, strict=True))


def fetch_of(consumer: AIOKafkaConsumer, content: bytes, assigned: Assigned) -> FetchResult:
    tp = TopicPartition("clicks", 3)
    values = PartitionRecords(tp, fetcher.MemoryRecords(content), None, assigned.position, None, consumer._value_deserializer, True, 0)
    return FetchResult(tp, assignment=assigned, partition_records=values, backoff=0)


def plainly(records: Iterable[Any]) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [(r.offset, -1 if r.timestamp is None else r.timestamp, r.key, r.value) for r in records]


def both(content: bytes, position: int) -> tuple[Records, int]:
    """What a marked consumer gets and where it goes on, which must be what the library gives another."""
    of_plain, of_marked = Assigned(position), Assigned(position)
    found = fetch_of(MARKED, content, of_marked).getall()
    assert plainly(found) == plainly(fetch_of(PLAIN, content, of_plain).getall())
    assert of_marked.position == of_plain.position
    return cast(Records, found), of_marked.position


BYTES = st.none() | st.binary(max_size=200) | st.just(b"x" * 20_000)
BATCHES = st.lists(
    st.builds(
        Sent,
        st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=20),
        st.just(0),
        st.sampled_from((0, 0, 1, 2, 3, 4)),
        st.sampled_from((2, 2, 2, 1, 0)),
        st.booleans(),
        st.none() | st.just(NOW + 1_000_000),
        st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(BATCHES, st.lists(st.integers(0, 1_000), min_size=4, max_size=4), st.data())
def test_every_format_and_codec_gives_the_records_that_the_library_gives(batches: list[Sent], gaps: list[int], data: st.DataObject) -> None:
    content, end = b"", 0
    for batch, gap in zip(batches, gaps, strict=False):
        # What the old formats do not know: zstd, and the oldest no lz4 either.
        unknown = batch.codec > (2, 3, 4)[batch.version]
        batch = replace(batch, base=end + gap, codec=0 if unknown else batch.codec)
        content, end = content + batch.stored(), batch.base + len(batch.records)
    # A broker sends nothing before the batch that the position is in; of the old formats every message is one.
    position = data.draw(st.integers(0, gaps[0] + (len(batches[0].records) - 1 if batches[0].version == 2 else 0)))
    cut = data.draw(st.integers(0, len(content)))
    whole, after = both(content, position)
    assert after == end
    offsets = [offset for offset, *_ in plainly(whole)]
    assert offsets == sorted(set(offsets))
    part, _ = records_of(content[:cut], position)
    assert plainly(part) == plainly(whole)[: len(part)]


@settings(max_examples=300, deadline=None)
@given(BATCHES, st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damaged_bytes_give_an_error_or_records_that_lie_within_them(
    batches: list[Sent], damage: list[tuple[int, int]], check: bool
) -> None:
    content = bytearray(b"".join(replace(batch, version=2, codec=0).stored() for batch in batches))
    for at, byte in damage:
        # The first batch keeps its length and format: whatever else is damaged, it is looked into.
        content[21 + at % (len(content) - 21)] = byte
    try:
        records, _ = records_of(bytes(content), 0, check=check)
    except (CorruptRecordException, UnsupportedCodecError):
        # A checksum that is looked at leaves no codec to be damaged.
        return
    for record in records:
        assert record.key is None or len(record.key) <= len(records.buffer)
        assert record.value is None or len(record.value) <= len(records.buffer)


async def test_what_was_fetched_goes_once_its_records_are_taken() -> None:
    """A fetch is a megabyte, and a worker's garbage collector runs seldom."""
    gc.disable()
    try:
        fetch = fetch_of(MARKED, stored(3), Assigned(0))
        watched = weakref.ref(fetch._partition_records)
        assert len(fetch.getall()) == 3
        assert watched() is None
    finally:
        gc.enable()


async def test_of_a_fetch_with_a_damaged_batch_nothing_counts_as_read_and_it_is_fetched_again() -> None:
    content = bytearray(stored(2, 2))
    content[-1] ^= 1
    assigned = Assigned(0)
    fetch = fetch_of(MARKED, bytes(content), assigned)
    with pytest.raises(CorruptRecordException, match=r"clicks.*offset 2 is damaged"):
        fetch.getall()
    assert assigned.position == 0
    assert not fetch.has_more()
    # The library keeps what it handed on with an error, asks it again, and only then lets go of it.
    assert not fetch.getall()

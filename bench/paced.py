"""A producer at a steady pace, for a process of its own: prepared clicks, into which number and time are put as they are sent."""

from __future__ import annotations

import asyncio
import random
import re
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c
from aiokafka.structs import RecordMetadata
from numpy.typing import NDArray

from bench.clicks import Load, clicks
from bench.figures import Floats, Ints

#: Prepared clicks, sent again and again, each time as a new event: enough for most users and campaigns of the load, within these bounds.
_FEWEST, _MOST = 20_000, 300_000
#: Milliseconds by which an event is older than its record at most.
_AGE = 1_500
_BATCH_BYTES = 512 * 1024
#: Clicks between two looks at whether there is room for more, where they are sent as fast as it goes.
_AT_ONCE = 2_000
#: The number at the end of a click's id, and its time.
_GAPS = re.compile(rb'\{"event_id": "[0-9a-f]{16}-(\d{12})", "occurred_at": (\d{13})')
_NUMBER_DIGITS, _TIME_DIGITS = 12, 13
#: Where the checksum of a batch (of all that comes after it) and its first and last time stand: Kafka's record batches, version 2.
_CRC_AT, _TIMES_AT = 17, 27


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `count` clicks, numbered from `first`, at `rate` a second (0: as fast as it goes).

    Every `step` seconds each partition gets a batch.

    `ages`: whether events happened up to 1.5 s before they are sent, as clicks come in real life, or just now.
    """

    bootstrap_servers: str
    topic: str
    count: int
    rate: float
    first: int = 0
    step: float = 0.025
    load: Load = field(default_factory=Load)
    ages: bool = True


@dataclass(frozen=True, slots=True)
class Sent:
    """Every batch that was acknowledged: arrays of equal length. `sent_at` is the clock, epoch s, when its bytes were made."""

    partition: Ints
    first_offset: Ints
    count: Ints
    sent_at: Floats
    #: From the first to the last batch, s; how late a batch was at most, and how much of a core the producer took.
    took: float
    late: float
    busy: float


def produce(plan: Plan) -> Sent:
    """Send everything; returns when all is acknowledged. To be run in a process of its own."""
    return asyncio.run(_produce(plan))


async def _produce(plan: Plan) -> Sent:
    producer = AIOKafkaProducer(bootstrap_servers=plan.bootstrap_servers, max_batch_size=_BATCH_BYTES, max_request_size=4 * _BATCH_BYTES)
    await producer.start()
    try:
        partitions = sorted(await producer.partitions_for(plan.topic))
        return await _send_all(plan, producer, _prepared(plan.load, partitions, ages=plan.ages))
    finally:
        await producer.stop()


@dataclass(frozen=True, slots=True)
class _Click:
    key: bytes
    value: bytes
    #: ms before it is sent.
    age: int


def _prepared(load: Load, partitions: list[int], *, ages: bool) -> dict[int, list[_Click]]:
    """Clicks by partition, as many in each as keys have it. Number and time in their texts are to be replaced."""
    chance = random.Random(load.seed)  # nosec B311 # ages of clicks, no secret
    choose = DefaultPartitioner()
    found: dict[int, list[_Click]] = {partition: [] for partition in partitions}
    count = min(_MOST, max(_FEWEST, load.users, 3 * load.campaigns))
    for key, value in clicks(load, count, time.time_ns() // 1_000_000):
        found[int(choose(key, partitions, partitions))].append(_Click(key, value, chance.randrange(_AGE) if ages else 0))
    return {partition: them for partition, them in found.items() if them}


class _Template:
    """A whole batch of one partition, as Kafka's protocol has it, into which numbers and times are put where they stand.

    Making each text anew took half a core at 70,000 a second, which was then not there for what is measured.
    """

    def __init__(self, partition: int, chosen: Sequence[_Click]) -> None:
        self.partition = partition
        builder = _builder()
        for click in chosen:
            builder.append(timestamp=0, key=click.key, value=click.value)
        self._bytes = np.frombuffer(builder._build(), np.uint8).copy()
        places = [(found.start(1), found.start(2)) for found in _GAPS.finditer(self._bytes.tobytes())]
        assert len(places) == len(chosen)
        self._numbers, self._times = np.array(places, np.int64).T
        self._ages = np.array([click.age for click in chosen], np.int64)

    def __len__(self) -> int:
        return len(self._ages)

    def stamped(self, first: int, at: int) -> BatchBuilder:
        """The batch with records numbered from `first`, sent at `at`, epoch ms."""
        _put(self._bytes, self._numbers, np.arange(first, first + len(self)), _NUMBER_DIGITS)
        _put(self._bytes, self._times, at - self._ages, _TIME_DIGITS)
        content = self._bytes.data
        struct.pack_into(">qq", content, _TIMES_AT, at, at)
        struct.pack_into(">I", content, _CRC_AT, calc_crc32c(content[_CRC_AT + 4 :]))
        builder = _builder()
        builder._buffer, builder._relative_offset = self._bytes.tobytes(), len(self)
        builder.close()
        return builder


def _builder() -> BatchBuilder:
    return BatchBuilder(2 * _BATCH_BYTES, 0)


def _put(content: NDArray[np.uint8], places: Ints, numbers: Ints, digits: int) -> None:
    powers = 10 ** np.arange(digits - 1, -1, -1, dtype=np.int64)
    content[places[:, None] + np.arange(digits)] = numbers[:, None] // powers % 10 + ord("0")


def _templates(prepared: Mapping[int, Sequence[_Click]], at_once: int) -> Iterator[list[_Template]]:
    """One batch of each partition, again and again: `at_once` clicks or some more or less, shared as the prepared ones are."""
    count = sum(map(len, prepared.values()))
    rounds: list[Iterator[_Template]] = []
    for partition, them in prepared.items():
        size = max(1, round(at_once * len(them) / count))
        rounds.append(cycle([_Template(partition, them[i : i + size]) for i in range(0, len(them) - size + 1, size)]))
    while True:
        yield [next(each) for each in rounds]


async def _send_all(plan: Plan, producer: AIOKafkaProducer, prepared: Mapping[int, Sequence[_Click]]) -> Sent:
    at_once = min(_AT_ONCE, max(len(prepared), int(plan.rate * plan.step))) if plan.rate else _AT_ONCE
    templates = _templates(prepared, at_once)
    batches: list[tuple[int, int, float, asyncio.Future[RecordMetadata]]] = []
    sent, late = 0, 0.0
    following = next(templates)
    began, cpu = time.perf_counter(), time.process_time()
    while sent < plan.count:
        if plan.rate:
            ahead = began + sent / plan.rate - time.perf_counter()
            late = max(late, -ahead)
            if ahead > 0:
                await asyncio.sleep(ahead)
        now = time.time()
        for template in following:
            left = plan.count - sent
            if left < len(template):
                template = _Template(template.partition, prepared[template.partition][:left])
            batch = template.stamped(plan.first + sent, int(now * 1_000))
            future = await producer.send_batch(batch, plan.topic, partition=template.partition)
            batches.append((template.partition, len(template), now, future))
            sent += len(template)
            if sent == plan.count:
                break
        following = next(templates)
    metadata = await asyncio.gather(*(future for *_, future in batches))
    return Sent(
        partition=np.array([partition for partition, *_ in batches], np.int64),
        first_offset=np.array([each.offset for each in metadata], np.int64),
        count=np.array([count for _, count, *_ in batches], np.int64),
        sent_at=np.array([at for _, _, at, _ in batches], np.float64),
        took=(took := time.perf_counter() - began),
        late=late,
        busy=(time.process_time() - cpu) / took,
    )

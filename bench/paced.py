"""A producer at a steady pace, for a process of its own: prepared clicks, into which number and time are put as they are sent."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import cycle

import numpy as np
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.structs import RecordMetadata

from bench.clicks import Load, clicks
from bench.figures import Floats, Ints

#: Prepared clicks, sent again and again, each time as a new event: enough for most users and campaigns of the load, within these bounds.
_FEWEST, _MOST = 20_000, 300_000
#: Milliseconds by which an event is older than its record at most.
_AGE = 1_500
_BATCH_BYTES = 512 * 1024
#: Clicks between two looks at whether there is room for more, where they are sent as fast as it goes.
_AT_ONCE = 10_000
#: What a click's text is cut at: the number at the end of its id, and its time.
_PARTS = re.compile(rb'(\{"event_id": "[0-9a-f]{16}-)\d{12}(", "occurred_at": )\d{13}(.*)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send: `count` clicks, numbered from `first`, at `rate` a second (0: as fast as it goes), in a batch every `step` seconds.

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


def _prepared(load: Load, partitions: list[int], *, ages: bool) -> Iterator[tuple[int, bytes, bytes, int]]:
    """(partition, key, text with two gaps, age in ms), without end."""
    chance = random.Random(load.seed)  # nosec B311 # ages of clicks, no secret
    choose = DefaultPartitioner()
    found = []
    count = min(_MOST, max(_FEWEST, load.users, 3 * load.campaigns))
    for key, value in clicks(load, count, time.time_ns() // 1_000_000):
        parts = _PARTS.fullmatch(value)
        assert parts is not None
        head, middle, tail = (part.replace(b"%", b"%%") for part in parts.groups())
        age = chance.randrange(_AGE) if ages else 0
        found.append((int(choose(key, partitions, partitions)), key, head + b"%012d" + middle + b"%d" + tail, age))
    return cycle(found)


def due(rate: float, step: float, number: int) -> int:
    """Records that are due in step `number`, so that over any time exactly the rate is sent."""
    return int(rate * step * (number + 1)) - int(rate * step * number)


async def _send_all(plan: Plan, producer: AIOKafkaProducer, prepared: Iterator[tuple[int, bytes, bytes, int]]) -> Sent:
    batches: list[tuple[int, int, float, asyncio.Future[RecordMetadata]]] = []
    number, end, step, late = plan.first, plan.first + plan.count, 0, 0.0
    began, cpu = time.perf_counter(), time.process_time()
    while number < end:
        if plan.rate:
            ahead = began + step * plan.step - time.perf_counter()
            late = max(late, -ahead)
            if ahead > 0:
                await asyncio.sleep(ahead)
        now = time.time()
        at = int(now * 1_000)
        until = min(end, number + (due(plan.rate, plan.step, step) if plan.rate else _AT_ONCE))
        builders: dict[int, BatchBuilder] = {}
        sending: list[tuple[int, BatchBuilder]] = []
        for each, (partition, key, text, age) in zip(range(number, until), prepared, strict=False):
            value = text % (each, at - age)
            builder = builders.get(partition) or builders.setdefault(partition, producer.create_batch())
            if builder.append(timestamp=at, key=key, value=value) is None:
                sending.append((partition, builder))
                builder = builders[partition] = producer.create_batch()
                builder.append(timestamp=at, key=key, value=value)
        for partition, builder in (*sending, *builders.items()):
            future = await producer.send_batch(builder, plan.topic, partition=partition)
            batches.append((partition, builder.record_count(), now, future))
        number, step = until, step + 1
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

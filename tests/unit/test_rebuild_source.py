"""Reading the log for a rebuild: what an owner is told of where its records go on from."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from aiokafka import TopicPartition

from streams.config import Settings
from streams.ingest.owner import PartitionOwner
from streams.ingest.records import Record, Records
from streams.rebuild.source import LogSource

A, B = TopicPartition("marketing.clicks", 0), TopicPartition("marketing.spend", 1)


def records(*offsets: int) -> Records:
    return Records.of(Record(offset, 0, None, b"{}") for offset in offsets)


class FakeConsumer:
    """Fetches once, then waits for ever."""

    def __init__(self, fetched: Mapping[TopicPartition, Records]) -> None:
        self._fetched = [fetched]
        self._positions: dict[TopicPartition, int] = {}

    async def getmany(self, timeout_ms: int) -> Mapping[TopicPartition, Records]:
        return self._fetched.pop() if self._fetched else await asyncio.Future()

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset

    async def position(self, tp: TopicPartition) -> int:
        return self._positions[tp]


class FakeOwner:
    """Writes down what it is handed, after it did what it is told."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self._first = first
        self.taken: list[tuple[list[int], int]] = []

    async def take(self, records: Records, since: int) -> None:
        self._first()
        self.taken.append(([record.offset for record in records], since))


@pytest.mark.parametrize("goes_back", [False, True])
async def test_records_fetched_before_an_owner_went_back_are_not_taken_for_those_that_it_went_back_to(goes_back: bool) -> None:
    source = LogSource(Settings())
    source._consumer._closed = True  # never started, and replaced
    consumer = FakeConsumer({A: records(0, 1), B: records(700, 701)})
    source._consumer = cast(Any, consumer)
    source.seek(A, 0)
    source.seek(B, 700)
    # While one owner takes its records, the other falls back to what Redis holds.
    owners = {A: FakeOwner((lambda: source.seek(B, 40)) if goes_back else (lambda: None)), B: FakeOwner()}
    feeding = asyncio.create_task(source.feed(cast(Mapping[TopicPartition, PartitionOwner], owners)))
    while not owners[B].taken:
        await asyncio.sleep(0)
    feeding.cancel()
    assert owners[A].taken == [([0, 1], 0)]
    assert owners[B].taken == [([700, 701], 700)]
    assert await source.read_to(B, 702) is not goes_back, "what it went back to is still to be read"

"""What a worker says of itself: alive while it gets on or something outside holds it up, ready while it can do its work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP
from prometheus_client import CollectorRegistry

from streams.app.owners import AssignedPartitions
from streams.app.state import health_of
from streams.config import Settings
from streams.ingest.continuity import LogState
from streams.ingest.owner import PartitionOwner
from streams.metrics.ingest import IngestMetrics

CLICKS = TP("marketing.clicks", 0)


class Rig:
    """Assigned partitions on a clock of the test's own, with one partition of which `end` records are in the log."""

    def __init__(self) -> None:
        self.now = 1_000.0
        nothing = cast(Any, None)
        self.owners = AssignedPartitions(Settings(), nothing, nothing, IngestMetrics(CollectorRegistry()), clock=lambda: self.now)
        self.owners.consumer = lambda: cast(Any, SimpleNamespace(behind=lambda tp, at, end: max(0, end - at)))
        self.owner = SimpleNamespace(next_offset=5, progress_at=self.now, hindered=None, started=True, start=self.start)

    async def assign(self) -> None:
        self.owners._owners[CLICKS] = cast(PartitionOwner, self.owner)
        await self.owners.acquire({CLICKS: LogState(0, 9)})

    async def start(self, _: LogState) -> int:
        return int(self.owner.next_offset)

    def known_end(self, end: int) -> None:
        """What the broker answered, apart from the fetcher."""
        self.owners.ends._ends = {CLICKS: end}
        self.owners.ends.answered_at = self.now

    def health(self) -> tuple[bool, bool]:
        found = health_of(self.owners)
        return found.alive, found.ready


@pytest.fixture
def rig() -> Rig:
    return Rig()


async def test_a_worker_is_ready_once_kafka_has_told_it_its_part(rig: Rig) -> None:
    assert rig.health() == (True, False)
    await rig.assign()
    assert rig.health() == (True, True)


async def test_standing_still_although_records_wait_is_not_being_alive(rig: Rig) -> None:
    await rig.assign()
    rig.known_end(9)
    rig.now += 59
    assert rig.health() == (True, True)
    rig.now += 2
    # The fetcher has heard of nothing: that it waits is known from the broker itself.
    assert rig.health() == (False, True)
    assert health_of(rig.owners).details["stuck"] == ["marketing.clicks:0"]
    rig.owner.next_offset = 9
    assert rig.health() == (True, True)


async def test_waiting_for_redis_is_no_reason_to_be_restarted(rig: Rig) -> None:
    await rig.assign()
    rig.known_end(9)
    rig.owner.hindered = "could not apply a flush: ConnectionError"
    rig.now += 600
    assert rig.health() == (True, False)
    assert health_of(rig.owners).details["hindered"] == {"marketing.clicks:0": "could not apply a flush: ConnectionError"}


async def test_a_worker_that_the_group_does_not_take_back_is_not_alive(rig: Rig) -> None:
    await rig.assign()
    await rig.owners.revoke([])
    assert rig.health() == (True, False)
    rig.now += 61
    # Without an answer of the broker it is Kafka that is away.
    assert rig.health() == (True, False)
    rig.known_end(5)
    assert rig.health() == (False, False)
    await rig.assign()
    assert rig.health() == (True, True)


async def test_an_owner_that_never_gets_started_is_not_being_alive(rig: Rig) -> None:
    rig.owner.next_offset = -1
    await rig.assign()
    assert rig.health() == (True, False)
    rig.now += 61
    assert rig.health() == (False, False)
    rig.owner.hindered = "could not claim the partition: Redis is away"
    assert rig.health() == (True, False)

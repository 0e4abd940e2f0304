"""Whole flushes of hostile records: nothing raises, and the ledger says of every record what the contract says."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import msgpack

from streams.config import DIMENSIONS, Settings, Topic
from streams.ingest.dedupe import Seen
from streams.ingest.flush import PartitionFlusher
from streams.ingest.records import Records
from streams.panes.ladder import Ladder
from streams.tables.keys import PartitionKeys
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables, PaneId
from streams.tables.store import PartitionStore
from tests.fuzz.defects import Defect
from tests.fuzz.payloads import payload
from tests.fuzz.targets import TAKEN, Target
from tests.reference import LogRecord, judge
from tests.unit.agreement import MONEY
from tests.unit.hostile_events import Sent

#: Record times go on from here: a minute after the events of `hostile_events.valid`.
_THEN = 1_795_404_333_123


class _EmptyStore:
    """Stands for Redis where nothing is stored yet."""

    def __init__(self, keys: PartitionKeys) -> None:
        self.keys = keys

    async def load(self, tables: OpenTables, days: Sequence[int], panes: Sequence[PaneId]) -> None:
        """Nothing is there."""
        assert not panes
        for day in days:
            tables.load_day(day, {})

    async def reports(self, identities: Mapping[int, Iterable[bytes]]) -> dict[bytes, bytes]:
        """None is there."""
        return {}


def empty_flusher(topic: Topic, settings: Settings) -> PartitionFlusher:
    """A flusher of a partition of which nothing is stored; what it would write is dropped."""
    keys = PartitionKeys("fuzz", settings.topic(topic), 0)
    tables = OpenTables(keys, Ladder(settings.streams.ladder), settings.all_cubes, max_rows=1_000_000, known=[])
    seen = Seen(int(settings.streams.dedupe_horizon * 1000))
    return PartitionFlusher(topic, settings, cast(PartitionStore, _EmptyStore(keys)), tables, seen, Meta())


class FlushTarget(Target):
    """A flush of records of one topic, into tables that are empty."""

    batch = 60

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.name = f"flush_{topic.value}"
        self._settings = Settings(money=MONEY)

    def make(self, chance: random.Random) -> Sent:
        """A spoilt record, its id mostly one of few."""
        sent = payload(chance, self.topic)
        value = sent.value if sent.value is None else sent.value.replace(b'"e-1"', b'"e-%d"' % chance.randrange(200))
        return Sent(value, sent.key)

    def judge(self, payloads: Sequence[Sent]) -> list[str]:
        """By a flush of all of them."""
        records = [LogRecord("t", 0, i, _THEN + i, sent.key, sent.value) for i, sent in enumerate(payloads)]
        flush = asyncio.run(empty_flusher(self.topic, self._settings).flush(Records.of(records), _THEN))
        msgpack.packb(
            [[str(each) if isinstance(each, int) else each for each in command] for command in flush.commands], use_bin_type=False
        )
        if self.topic is Topic.CAMPAIGNS:
            return [TAKEN] * flush.meta.applied + ["quarantined"] * flush.meta.quarantined
        expected = judge([(self.topic, record) for record in records], self._settings, DIMENSIONS).totals["t", 0]
        found = flush.meta
        if (found.read, found.applied, found.duplicate, found.too_late, found.quarantined) != (
            expected.read,
            expected.applied,
            expected.duplicate,
            expected.too_late,
            expected.quarantined,
        ):
            raise Defect(f"ledger: {found}, expected {expected}")
        if len(flush.refusals) != found.quarantined:
            raise Defect("ledger: counts other refusals than there are")
        counts = {TAKEN: found.applied, "duplicate": found.duplicate, "too_late": found.too_late, "quarantined": found.quarantined}
        return [outcome for outcome, count in counts.items() for _ in range(count)]

"""One flush of one topic-partition, in memory: records in, everything that has to be written out.

    decode -> judge by record time -> drop duplicates -> facts -> cells -> open tables -> commands

What Redis holds and the flush needs (row codes, panes not in memory, earlier spend reports) is asked of the store in between; nothing is
written here.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from streams.config import Settings, Topic
from streams.events.models import FUTURE_MS, Campaign
from streams.events.parsing import Deletion, parse, registered
from streams.events.refusal import Reason, Refusal
from streams.ingest.aggregate import Facts, aggregate
from streams.ingest.columns import Columns
from streams.ingest.decode import Decoder
from streams.ingest.dedupe import Seen
from streams.ingest.facts import facts_of
from streams.ingest.lifetimes import lifetime
from streams.ingest.records import KEY_START, NOTHING, OFFSET, TIMESTAMP, Records
from streams.ingest.reports import MINUTE_MS, MINUTES_A_DAY, Report, facts_of_reports, reports_of, rule
from streams.ingest.users import user_hasher
from streams.panes.ladder import DAY_MS, Ladder, Level
from streams.privacy.erased import Erased
from streams.tables.aside import aside
from streams.tables.keys import Command
from streams.tables.meta import Meta
from streams.tables.opentables import OpenTables, PaneId
from streams.tables.store import PartitionStore

#: Panes that Redis is asked for at once, each by some forty commands: a spend report of a month lands in very many, and an answer that
#: takes longer than `redis.timeout` would never come.
_PANES_AT_ONCE = 50
Ints = NDArray[np.int64]
#: Calls what reads from Redis, and perhaps again when that fails.
Reading = Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]


async def _once(read: Callable[[], Awaitable[None]]) -> None:
    await read()


@dataclass(slots=True)
class Flush:
    """What a batch of records came to."""

    meta: Meta
    commands: list[Command] = field(default_factory=list)
    #: (number of the record in the batch, why it was refused).
    refusals: list[tuple[int, Refusal]] = field(default_factory=list)
    without_key: int = 0


class PartitionFlusher:
    """Turns batches of one topic-partition into flushes. Holds its open tables and seen ids.

    Any exception leaves it unusable: make a new one.
    """

    def __init__(self, topic: Topic, settings: Settings, store: PartitionStore, tables: OpenTables, seen: Seen, meta: Meta) -> None:
        self.topic = topic
        self.tables = tables
        self.seen = seen
        self.meta = meta
        self._settings = settings
        self._store = store
        self._ladder = Ladder(settings.streams.ladder)
        self._ttl = lifetime(settings)
        self._hash_users = user_hasher(settings.privacy.user_key.get_secret_value())
        #: Users that events of the past must not bring back.
        self.erased: Erased | None = None
        #: Those of the registry, for the partitions that it comes from.
        self.campaigns: set[str] = set()
        self._decoder = Decoder(topic, settings.money) if topic is not Topic.CAMPAIGNS else None
        self._next_expiry = 0
        self._reading: Reading = _once

    async def flush(
        self, records: Records, now: int, unprocessable: Mapping[int, Refusal] | None = None, reading: Reading | None = None
    ) -> Flush:
        """Take in `records` (in offset order, none applied before). `now` in epoch ms is kept as the time of the flush.

        Records whose offset is among the `unprocessable` are refused without a look. What reads from Redis goes through `reading`, which
        may call it again and again.
        """
        self._reading = reading or _once
        offsets = records.column(OFFSET)
        meta = replace(self.meta, applied_offset=int(offsets[-1]), applied_at=now, caught_up_at=0, read=self.meta.read + len(records))
        streams = self._settings.streams
        meta.event_time = self.meta.event_time_reached(int(streams.lateness * 1000), int(streams.idle_timeout * 1000))
        meta.record_time = max(meta.record_time, int(records.column(TIMESTAMP).max()))
        # Further on it can only be by a clock that was ahead when the partition was idle.
        meta.event_time = min(meta.event_time, max(meta.record_time, now))
        result = Flush(meta, without_key=int((records.column(KEY_START) == NOTHING).sum()))
        if unprocessable:
            known = np.isin(offsets, list(unprocessable))
            kept = np.flatnonzero(~known)
            await self._take_in(records.rows(kept), result)
            result.refusals = [(int(kept[i]), refusal) for i, refusal in result.refusals]
            result.refusals += [(i, unprocessable[int(offsets[i])]) for i in np.flatnonzero(known).tolist()]
        else:
            await self._take_in(records, result)
        meta.quarantined += len(result.refusals)
        result.refusals.sort(key=lambda refused: refused[0])
        result.commands += await aside(self.tables.take_commands, meta.applied_offset, self._ttl)
        result.commands += self._expire(meta.record_time)
        # First, so that a Redis that refuses them has done nothing yet.
        result.commands = [*self.tables.kept.take_commands(), *result.commands]
        self.meta = meta
        return result

    async def _take_in(self, records: Records, result: Flush) -> None:
        if self._decoder is None:
            self._register(records, result)
            return
        # Compiled loops run beside the interpreter: another partition's flush, the fetching and the pages go on meanwhile.
        columns = await asyncio.to_thread(self._read, self._decoder, records, result)
        if not len(columns):
            return
        if self.topic is Topic.SPEND:
            await self._add_reports(columns, result)
        else:
            await self._add_events(columns, result)

    def _read(self, decoder: Decoder, records: Records, result: Flush) -> Columns:
        """What of the records is to be added."""
        columns, result.refusals = decoder.decode(records)
        columns = self._judge_times(columns, result)
        self._note_event_time(columns, result.meta)
        return columns if self.topic is Topic.SPEND else self._without_duplicates(columns, result)

    # By record time.

    def _judge_times(self, columns: Columns, result: Flush) -> Columns:
        """Refuse what lies in the future, count what is too late."""
        future = columns.occurred_at > columns.record_time + FUTURE_MS
        for i in np.flatnonzero(future):
            ahead = (int(columns.occurred_at[i]) - int(columns.record_time[i])) / 1000
            detail = (
                f"occurred_at is {ahead:.3f} s after the record's own time; at most {FUTURE_MS // 1000} s are allowed: "
                "check the producer's clock"
            )
            result.refusals.append((int(columns.index[i]), Refusal(Reason.IN_FUTURE, detail)))
        ends = columns.period_end * MINUTE_MS if self.topic is Topic.SPEND else columns.occurred_at
        late = ~future & (columns.record_time - ends > self._ladder.retention)
        result.meta.too_late += int(late.sum())
        return select(columns, ~future & ~late)

    @staticmethod
    def _note_event_time(columns: Columns, meta: Meta) -> None:
        if len(columns):
            meta.event_time = max(meta.event_time, int(np.minimum(columns.occurred_at, columns.record_time).max()))

    # Events.

    def _without_duplicates(self, columns: Columns, result: Flush) -> Columns:
        if not len(columns):
            return columns
        admitted, rows = self.seen.admit(columns.event_id, columns.record_time, self.meta.record_time)
        result.meta.duplicate += int((~admitted).sum())
        result.meta.applied += int(admitted.sum())
        result.commands += self._seen_commands(rows)
        return select(columns, admitted)

    async def _add_events(self, columns: Columns, result: Flush) -> None:
        kinds = None
        if len(columns.kind):
            days = np.unique(columns.occurred_at // DAY_MS).tolist()
            await self._load(self.tables.missing_days(day * DAY_MS for day in days), ())
            present = {kind for kind in columns.kind.present() if kind is not None}
            kinds = self.tables.own_measures(days, present, self._settings.streams.max_kinds)
        await self._add_facts(await aside(self._facts, columns, kinds), result.meta.record_time)

    def _facts(self, columns: Columns, kinds: Collection[str] | None) -> Facts:
        facts = facts_of(self.topic, columns, self._settings.money, self._hash_users, kinds)
        if self.erased:
            facts.users = self.erased.without(facts.users, columns.user_id, columns.record_time)
        return facts

    def _seen_commands(self, rows: NDArray[np.uint64]) -> Iterable[Command]:
        for part, its in self.seen.parts(rows):
            key = self._store.keys.seen(*part)
            self.tables.kept.has_more(key, its.nbytes)
            yield ("APPEND", key, its.tobytes())
            yield ("EXPIRE", key, self._ttl)

    # Spend reports.

    async def _add_reports(self, columns: Columns, result: Flush) -> None:
        reports = reports_of(columns)
        wanted: dict[int, list[bytes]] = {}
        for report in reports:
            wanted.setdefault(report.last_day, []).append(report.identity)
        found: dict[bytes, bytes] = {}

        async def read() -> None:
            found.update(await self._store.reports(wanted))

        await self._reading(read)
        stored = {identity: Report.unpack(packed) for identity, packed in found.items()}
        ruling = rule(reports, stored)
        result.meta.applied += int(ruling.counts.sum())
        result.meta.duplicate += int((~ruling.counts).sum())
        for identity, report in ruling.newest.items():
            key = self._store.keys.reports(report.last_day)
            result.commands += [("HSET", key, identity, report.pack()), ("EXPIRE", key, self._ttl)]
            if identity not in stored:
                self.tables.kept.has_more(key, 1)
        for level in self._ladder.levels:
            parts = facts_of_reports(ruling.changes, self._settings.money, level, result.meta.record_time)
            while (facts := await aside(next, parts, None)) is not None:
                await self._add_facts(facts, result.meta.record_time, (level,))

    # Into the tables.

    async def _add_facts(self, facts: Facts, record_time: int, levels: Sequence[Level] | None = None) -> None:
        """Add facts to all levels of the ladder, or to those that they were made for."""
        levels = levels or self._ladder.levels
        starts = np.unique(facts.times - facts.times % levels[0].size).tolist()
        panes = self.tables.kept_panes(starts, record_time, levels)
        days, missing = self.tables.missing_days(starts), self.tables.missing_panes(panes)
        if days or missing:
            await self._load(days, missing)
        await aside(self._add_cells, facts, record_time, levels)

    async def _load(self, days: Sequence[int], panes: Sequence[PaneId]) -> None:
        for begin in range(0, max(1, len(panes)), _PANES_AT_ONCE):
            some = panes[begin : begin + _PANES_AT_ONCE]
            await self._reading(functools.partial(self._store.load, self.tables, days if not begin else (), some))

    def _add_cells(self, facts: Facts, record_time: int, levels: Sequence[Level]) -> None:
        for cube, cells in aggregate(facts, self._settings.all_cubes, levels[0].size).items():
            self.tables.add(cube, cells, record_time, levels)

    def _expire(self, record_time: int) -> list[Command]:
        """Delete what is no longer kept; looked at once a finest pane."""
        if record_time < self._next_expiry:
            return []
        finest = self._ladder.levels[0].size
        self._next_expiry = record_time - record_time % finest + finest
        commands = self.tables.take_expired(record_time)
        gone = [self._store.keys.seen(*part) for part in self.seen.prune(record_time)]
        if self.topic is Topic.SPEND:
            day = (record_time - self._ladder.retention) // (MINUTES_A_DAY * MINUTE_MS) - 1
            gone += [self._store.keys.reports(day - 2), self._store.keys.reports(day - 1)]
        self.tables.kept.are_gone(gone)
        return commands + [("UNLINK", key) for key in gone]

    # The registry.

    def _register(self, records: Records, result: Flush) -> None:
        key = self._store.keys.registry()
        for i, record in enumerate(records):
            try:
                parsed = parse(Topic.CAMPAIGNS, record.value, record.key, self._settings.money)
            except Refusal as refusal:
                result.refusals.append((i, refusal.to_keep()))
                continue
            result.meta.applied += 1
            if isinstance(parsed, Deletion):
                result.commands.append(("HDEL", key, parsed.campaign_id))
                self.campaigns.discard(parsed.campaign_id)
            elif isinstance(parsed, Campaign):
                result.commands.append(("HSET", key, parsed.campaign_id, msgspec.json.encode(registered(parsed))))
                self.campaigns.add(parsed.campaign_id)
        self.tables.kept.is_now(key, len(self.campaigns))


def select(columns: Columns, keep: NDArray[np.bool_]) -> Columns:
    """The events for which `keep` is true."""
    return columns if keep.all() else columns.rows(np.flatnonzero(keep))

"""After a round: everything that the product shows, held against the log."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
from aiokafka import TopicPartition
from redis.asyncio import Redis

from streams.config import Settings
from streams.kpis.measures import MEASURES
from streams.panes.ladder import DAY_MS, Ladder, Level
from streams.quarantine.record import decode_quarantined
from streams.tables.generations import generation_in_use, tables_namespace
from streams.tables.keys import PartitionKeys, alerts_key
from streams.tables.reader import TableReader
from streams.tables.sketchlogs import split_counts
from streams.tables.store import PartitionStore
from streams.tables.windows import Window
from tests.chaos.differences import (
    Verdict,
    compare_ledger,
    compare_outbox,
    compare_quarantine,
    compare_rows,
    compare_told,
    compare_users,
    count_events,
)
from tests.chaos.expected import Expected, RowKey, Rows
from tests.chaos.log import LogReader

#: Steps of a series that are read at once.
_STEPS = 400
#: Panes of its finest level that an odd window may span; days that cubes are compared over when it is not their turn.
_LONGEST, _LATELY = 150, 45
#: Cubes that are looked at closely in a round, beside that of campaigns.
_CLOSELY = 2
_TOLD_WITHIN = 20.0


def whole_range(record_time: int, ladder: Ladder) -> tuple[int, int]:
    """Whole days that hold everything but the day that is being let go; epoch ms."""
    first = (record_time - ladder.retention) // DAY_MS + 1
    return first * DAY_MS, (record_time // DAY_MS + 2) * DAY_MS


def odd_windows(record_time: int, ladder: Ladder, chance: random.Random) -> list[tuple[int, int]]:
    """Windows with odd bounds, two per level, that panes of that level and coarser ones must answer; epoch ms."""
    windows = []
    for finer, level in zip((None, *ladder.levels), ladder.levels, strict=False):
        oldest = record_time - level.keep + 2 * level.size
        newest = record_time - (finer.keep if finer is not None else 0) - level.size
        for _ in range(2):
            start = chance.randrange(oldest, newest) // level.size * level.size
            longest = min(record_time + 2 * level.size, start + _LONGEST * level.size)
            end = chance.randrange(start, longest) // level.size * level.size + level.size
            windows.append((start, end))
    return windows


def exact_rows(window: Window) -> Rows:
    """Row key -> measure -> amount, zeros and empty rows left out."""
    rows = {key: {name: int(values[i]) for name, values in window.measures.items() if values[i]} for i, key in enumerate(window.rows)}
    return {key: row for key, row in rows.items() if row}


class Comparer:
    """Compares with `expected`, which the caller keeps up to date. `settings` lead to Redis without anything in between."""

    def __init__(self, settings: Settings, redis: Redis, expected: Expected, quarantine: LogReader, alerts: LogReader, seed: int) -> None:
        self._settings = settings
        self._redis: Any = redis
        self._reader = TableReader(redis, settings)
        self._expected = expected
        self._ladder = Ladder(settings.streams.ladder)
        self._quarantine = quarantine
        self._quarantined: dict[tuple[str, int, int], set[tuple[bytes | None, bytes | None, int | None]]] = {}
        self._alerts = alerts
        self._told: list[str] = []
        self._seed = seed
        #: The offset after the last record of every partition that the product reads; set by the caller.
        self.ends: Mapping[TopicPartition, int] = {}

    async def compare(self, number: int) -> Verdict:
        """Everything, after round `number` (from 1), which also decides what is looked at pane by pane this time."""
        verdict = Verdict()
        chance = random.Random(f"comparing {self._seed} {number}")
        reference = self._expected.reference
        ends = {(partition.topic, partition.partition): end for partition, end in self.ends.items()}
        compare_ledger(verdict, reference.totals, ends, await self._reader.ledger())
        await self._windows(verdict, number, chance)
        await self._panes(verdict, number, chance)
        await self._sketches(verdict)
        await self._whole(verdict)
        verdict.add("registry", "campaigns", reference.registry, await self._reader.campaigns())
        await self._refused(verdict)
        await self._incidents(verdict)
        return verdict

    async def _windows(self, verdict: Verdict, number: int, chance: random.Random) -> None:
        """All cubes over the last weeks; those whose turn it is, and that of campaigns, over everything and over odd windows as well."""
        start, end = whole_range(self._expected.record_time, self._ladder)
        names = list(self._settings.all_cubes)
        closely = {"campaign", *(names[(number * _CLOSELY + i) % len(names)] for i in range(_CLOSELY))}
        for cube in names:
            if cube in closely:
                expected, found = await self._window(verdict, cube, start, end, reach=True)
                if cube == "campaign":
                    count_events(verdict, expected, found)
                for window in odd_windows(self._expected.record_time, self._ladder, chance):
                    await self._window(verdict, cube, *window, reach=True)
            else:
                await self._window(verdict, cube, end - _LATELY * DAY_MS, end, reach=False)

    async def _window(self, verdict: Verdict, cube: str, start: int, end: int, *, reach: bool) -> tuple[Rows, Rows]:
        dimensions, where = self._settings.all_cubes[cube], f"cube {cube} over [{start}, {end})"
        window = await self._reader.window(cube, start, end, estimates=reach)
        expected, found = self._expected.window(dimensions, start, end), exact_rows(window)
        compare_rows(verdict, where, expected, found)
        if reach:
            estimates = window.estimates["reach"]
            users = {key: float(estimates[i]) for i, key in enumerate(window.rows) if estimates[i] > 0}
            compare_users(verdict, where, self._expected.users(dimensions, start, end), users)
        return expected, found

    async def _panes(self, verdict: Verdict, number: int, chance: random.Random) -> None:
        """One cube pane by pane; the next round takes the next one. Of long levels a stretch is read each time.

        The newest panes of the campaigns are looked at every time: only there can be seen what a writer spoils that is none any more, as
        the rows of long panes are soon written anew.
        """
        names = list(self._settings.all_cubes)
        cube = names[number % len(names)]
        if cube != "campaign":
            await self._series(verdict, "campaign", self._ladder.levels[0], None, chance)
        for finer, level in zip((None, *self._ladder.levels), self._ladder.levels, strict=False):
            await self._series(verdict, cube, level, finer, chance)

    async def _series(self, verdict: Verdict, cube: str, level: Level, finer: Level | None, chance: random.Random) -> None:
        size, record_time = level.size, self._expected.record_time
        oldest = (record_time - level.keep + 2 * size) // size * size
        newest = (record_time // size + 2) * size
        # Where finer panes are kept they would have to make up the steps as well; a stretch that begins before them is read coarser.
        latest = newest if finer is None else (record_time - finer.keep - size) // size * size
        start = max(oldest, newest - _STEPS * size) if latest >= newest - size else chance.randrange(oldest, latest + 1) // size * size
        end = min(newest, start + _STEPS * size)
        dimensions = self._settings.all_cubes[cube]
        expected = self._expected.steps(dimensions, start, end, size)
        measures = sorted({name for row in expected.values() for name in row} | set(MEASURES))
        series = await self._reader.series(cube, start, end, size, measures=measures)
        found: dict[tuple[int, RowKey], dict[str, int]] = {}
        for name, values in series.measures.items():
            for row, step in zip(*np.nonzero(values), strict=True):
                found.setdefault((int(series.times[step]), series.rows[row]), {})[name] = int(values[row, step])
        compare_rows(verdict, f"cube {cube} by panes of {size // 1000} s", expected, found)

    async def _sketches(self, verdict: Verdict) -> None:
        """The quantile sketches have taken in each value once: their counts add up to the number of events that had one."""
        start, end = whole_range(self._expected.record_time, self._ladder)
        size = self._ladder.levels[-1].size
        found = {"dwell": 0, "load": 0}
        namespace = await self._namespace()
        for topic, partition in self.ends:
            keys = PartitionKeys(namespace, topic, partition)
            for sketch in found.keys() & set(keys.sketches):
                pipe = self._redis.pipeline(transaction=False)
                for pane in range(start, end, size):
                    pipe.get(keys.sketch(sketch, size, pane, "campaign"))
                stored = b"".join(log for log in await pipe.execute() if log)
                found[sketch] += int(split_counts(np.frombuffer(stored, np.uint64))[1].sum())
        for sketch, count in self._expected.sketched(start, end).items():
            verdict.add("sketches of cube campaign", f"values of {sketch}", count, found[sketch])

    async def _namespace(self) -> str:
        """That of the tables in use."""
        return tables_namespace(self._settings.redis.namespace, await generation_in_use(self._redis, self._settings))

    async def _whole(self, verdict: Verdict) -> None:
        """Every key is as long as whoever wrote it last left it, also those of panes and cubes that no window of this round reads."""
        namespace = await self._namespace()
        since = self._expected.record_time - self._ladder.retention
        for topic, partition in self.ends:
            store = PartitionStore(self._redis, PartitionKeys(namespace, topic, partition), self._settings.all_cubes)
            if (await store.meta()).record_time:
                verdict.add(f"keys of {topic}:{partition}", "not as they were left", [], await store.lost_keys(since))

    async def _refused(self, verdict: Verdict) -> None:
        for _, record in await self._quarantine.more():
            kept = decode_quarantined(record.value or b"")
            at = (kept.topic, kept.partition, kept.offset)
            self._quarantined.setdefault(at, set()).add((kept.key, kept.value, kept.timestamp))
        compare_quarantine(verdict, self._expected.reference.refused, self._quarantined)

    async def _incidents(self, verdict: Verdict) -> None:
        namespace = self._settings.redis.namespace
        pipe = self._redis.pipeline(transaction=True)
        pipe.xrange(alerts_key(namespace, "outbox"))
        pipe.hgetall(alerts_key(namespace, "incidents"))
        pipe.hgetall(alerts_key(namespace, "state"))
        entries, stored, states = await pipe.execute()
        outbox = [(entry[b"incident_id"].decode(), int(entry[b"seq"]), entry[b"change"].decode()) for _, entry in entries]
        incidents, states = ({name.decode(): text.decode() for name, text in found.items()} for found in (stored, states))
        compare_outbox(verdict, outbox, incidents, states)
        deadline = asyncio.get_running_loop().time() + _TOLD_WITHIN
        wanted = {_canonical(change) for _, _, change in outbox}
        while True:
            self._told += [_canonical((record.value or b"").decode()) for _, record in await self._alerts.more()]
            if wanted <= set(self._told) or asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.5)
        compare_told(verdict, [(incident, seq, _canonical(change)) for incident, seq, change in outbox], self._told)


def _canonical(change: str) -> str:
    return json.dumps(json.loads(change), sort_keys=True)

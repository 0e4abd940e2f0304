"""Reading the KPI tables: windows, series, the ledger and the registry, merged over all partitions.

The only way to read what the workers keep in Redis; any process may, without talking to a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from streams.config import EVENT_TOPICS, Settings, Topic
from streams.kpis.measures import APPROXIMATE, is_exact, stored_parts, with_derived
from streams.kpis.sketches import SPARSE_LIMIT, distinct, quantiles
from streams.panes.ladder import DAY_MS, Ladder, Level
from streams.tables import chunks
from streams.tables.generations import generation_in_use, tables_namespace
from streams.tables.keys import PartitionKeys, partitions_key
from streams.tables.meta import Meta
from streams.tables.opentables import PaneId, unpack_rows
from streams.tables.sketchlogs import split_counts
from streams.tables.windows import PartitionLedger, Registered, RowKey, Series, TableError, Window

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_32 = np.uint64(32)


class TableReader:
    """Answers questions about the tables. Raises `TableError` for one that cannot be answered, redis errors when Redis is away."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis: Any = redis
        self._settings = settings
        self._ladder = Ladder(settings.streams.ladder)
        self._event_topics = {settings.topic(topic) for topic in EVENT_TOPICS}

    # Questions.

    async def window(
        self,
        cube: str,
        start: int,
        end: int,
        *,
        measures: Collection[str] | None = None,
        estimates: bool = True,
        where: Mapping[str, str | None] | None = None,
    ) -> Window:
        """Sum `cube` over [start, end), epoch ms.

        `measures` limits what is read (None: all exact ones); `estimates=False` leaves the sketches unread.
        `where` keeps rows whose dimensions have the given values (dimensions of the cube only).
        """
        dimensions = self._dimensions(cube, where)
        metas = await self._metas()
        level = self._level(start, metas)
        _check_bounds(start, end, level)
        panes = [(lvl.size, s) for lvl, s in self._ladder.cover(start, end, level)]
        rows = _Rows(dimensions, where)
        sums = _Sums(_stored(measures), 1)
        sketches = _Sketches()
        for stored in await self._read(cube, self._events(metas), panes, rows, sketches=estimates):
            for code_rows, values in stored.chunks(rows):
                sums.add(code_rows, values, 0)
            sketches.add(stored, rows)
        kept = np.flatnonzero(sums.any_row(len(rows.keys)) | sketches.any_row(len(rows.keys)))
        exact = with_derived({name: values[kept, 0] for name, values in sums.arrays(len(rows.keys)).items()}, len(kept))
        return Window(
            cube,
            dimensions,
            start,
            end,
            level.size,
            self._complete(metas, end),
            [rows.keys[i] for i in kept],
            exact if measures is None else {name: exact.get(name, np.zeros(len(kept), np.int64)) for name in measures},
            {name: values[kept] for name, values in sketches.estimates(len(rows.keys)).items()} if estimates else {},
        )

    async def series(
        self,
        cube: str,
        start: int,
        end: int,
        step: int,
        *,
        measures: Collection[str],
        where: Mapping[str, str | None] | None = None,
    ) -> Series:
        """Exact `measures` of a cube's rows per `step` ms over [start, end)."""
        dimensions = self._dimensions(cube, where)
        for name in measures:
            if not is_exact(name):
                raise TableError(f"unknown measure {name!r}")
        metas = await self._metas()
        level = self._level(start, metas)
        _check_bounds(start, end, level)
        if step <= 0 or step % level.size or (end - start) % step:
            raise TableError(
                f"step must be a multiple of {level.size // 1000} s that divides the range, the finest panes still kept for it"
            )
        times = np.arange(start, end, step, dtype=np.int64)
        step_of = {(lvl.size, s): i for i, t in enumerate(times.tolist()) for lvl, s in self._ladder.cover(t, t + step, level)}
        rows = _Rows(dimensions, where)
        sums = _Sums(_stored(measures), len(times))
        for stored in await self._read(cube, self._events(metas), list(step_of), rows, sketches=False):
            for code_rows, values in stored.chunks(rows):
                sums.add(code_rows, values, step_of[stored.pane])
        kept = np.flatnonzero(sums.any_row(len(rows.keys)))
        arrays = {name: values[kept] for name, values in sums.arrays(len(rows.keys)).items()}
        result = {}
        for name in measures:
            total = np.zeros((len(kept), len(times)), np.int64)
            for part, sign in stored_parts(name):
                if part in arrays:
                    total += sign * arrays[part]
            result[name] = total
        watermark = self._watermark(metas)
        complete = times + step <= (watermark if watermark is not None else -1)
        return Series(cube, dimensions, times, step, complete, [rows.keys[i] for i in kept], result)

    async def alignment(self, start: int) -> int:
        """Milliseconds that the bounds of a window starting at `start` must be multiples of. TableError: no longer kept."""
        return self._level(start, await self._metas()).size

    async def ledger(self) -> list[PartitionLedger]:
        """One entry per known topic-partition, sorted by topic and partition."""
        streams = self._settings.streams
        metas = await self._metas()
        pipe = self._redis.pipeline(transaction=False)
        for keys in metas:
            pipe.hgetall(keys.notes())
        notes = await pipe.execute()
        return [
            PartitionLedger(
                keys.topic,
                keys.partition,
                meta.start_offset,
                meta.applied_offset,
                meta.read,
                meta.applied,
                meta.duplicate,
                meta.too_late,
                meta.quarantined,
                meta.watermark(int(streams.lateness * 1000), int(streams.idle_timeout * 1000)),
                meta.record_time or None,
                {kind.decode(): note for kind, note in found.items()},
                bool(meta.retired),
            )
            for (keys, meta), found in zip(metas.items(), notes, strict=True)
        ]

    async def watermark(self) -> int | None:
        """The slowest event partition's watermark, epoch ms; None before any event."""
        return self._watermark(await self._metas())

    async def bookkeeping(self) -> dict[PartitionKeys, Meta]:
        """Offsets, ledger and event time of every known topic-partition, in the generation in use."""
        return await self._metas()

    async def campaigns(self) -> dict[str, Registered]:
        """The registry: campaign_id -> campaign."""
        topic = self._settings.topic(Topic.CAMPAIGNS)
        pipe = self._redis.pipeline(transaction=False)
        for keys in await self._metas():
            if keys.topic == topic:
                pipe.hgetall(keys.registry())
        found: dict[str, Registered] = {}
        for stored in await pipe.execute():
            found |= {campaign.decode(): msgspec.json.decode(content) for campaign, content in stored.items()}
        return dict(sorted(found.items()))

    # Partitions.

    async def _metas(self) -> dict[PartitionKeys, Meta]:
        generation = await generation_in_use(self._redis, self._settings)
        namespace, prefix = tables_namespace(self._settings.redis.namespace, generation), self._settings.kafka.topic_prefix + "."
        known = []
        for member in await self._redis.smembers(partitions_key(namespace)):
            topic, _, partition = member.decode().rpartition(":")
            if topic.startswith(prefix):
                known.append(PartitionKeys(namespace, topic, int(partition)))
        known.sort(key=lambda keys: (keys.topic, keys.partition))
        pipe = self._redis.pipeline(transaction=False)
        for keys in known:
            pipe.hgetall(keys.meta())
        return {keys: Meta.parse(stored) for keys, stored in zip(known, await pipe.execute(), strict=True)}

    def _events(self, metas: Mapping[PartitionKeys, Meta]) -> list[PartitionKeys]:
        return [keys for keys, meta in metas.items() if keys.topic in self._event_topics and meta.applied]

    def _watermark(self, metas: Mapping[PartitionKeys, Meta]) -> int | None:
        streams = self._settings.streams
        marks = [
            meta.watermark(int(streams.lateness * 1000), int(streams.idle_timeout * 1000))
            for keys, meta in metas.items()
            if keys.topic in self._event_topics and not meta.retired
        ]
        return None if not marks or None in marks else min(m for m in marks if m is not None)

    def _complete(self, metas: Mapping[PartitionKeys, Meta], end: int) -> bool:
        watermark = self._watermark(metas)
        return watermark is not None and watermark >= end

    def _level(self, start: int, metas: Mapping[PartitionKeys, Meta]) -> Level:
        record_time = max((meta.record_time for keys, meta in metas.items() if keys.topic in self._event_topics), default=0)
        level = self._ladder.finest_kept(start, record_time)
        if level is None:
            raise TableError(f"nothing is kept from so long ago: the coarsest panes are kept for {self._ladder.retention // DAY_MS} days")
        return level

    def _dimensions(self, cube: str, where: Mapping[str, str | None] | None) -> tuple[str, ...]:
        cubes = self._settings.all_cubes
        if cube not in cubes:
            raise TableError(f"unknown cube {cube!r}; there are {', '.join(cubes)}")
        for name in where or ():
            if name not in cubes[cube]:
                raise TableError(f"{name!r} is no dimension of cube {cube}; there are {', '.join(cubes[cube]) or 'none'}")
        return cubes[cube]

    # Stored bytes.

    async def _read(
        self, cube: str, partitions: Sequence[PartitionKeys], panes: Sequence[PaneId], rows: _Rows, *, sketches: bool
    ) -> list[_StoredPane]:
        answers = await asyncio.gather(*(self._read_partition(keys, cube, panes, rows, sketches) for keys in partitions))
        return [stored for answer in answers for stored in answer]

    async def _read_partition(
        self, keys: PartitionKeys, cube: str, panes: Sequence[PaneId], rows: _Rows, sketches: bool
    ) -> list[_StoredPane]:
        """Everything of one partition in one transaction, so that all panes show the same offset."""
        days = sorted({start // DAY_MS for _, start in panes})
        numbers: dict[int, list[int]] | None = None
        while True:
            pipe = self._redis.pipeline(transaction=True)
            for day in days:
                pipe.get(keys.rows(cube, day))
            if numbers is not None:
                for size, start in panes:
                    fields = [f"{cube}/{n}" for n in numbers[start // DAY_MS]]
                    pipe.hmget(keys.pane(size, start), fields or ["-"])
                    if sketches:
                        for sketch in keys.sketches:
                            pipe.get(keys.sketch(sketch, size, start, cube))
            answers = iter(await pipe.execute())
            codes = {day: rows.number(unpack_rows(next(answers) or b"")) for day in days}
            wanted = {day: rows.chunks_of(found) for day, found in codes.items()}
            if numbers is None and not any(wanted.values()):
                return []
            if numbers == wanted and numbers is not None:
                break
            # Rows came to be since the numbers of chunks were asked for: ask again.
            numbers = wanted
        stored = []
        for size, start in panes:
            day = start // DAY_MS
            found = next(answers)
            logs = {sketch: next(answers) for sketch in keys.sketches} if sketches else {}
            fields_ = {n: chunk for n, chunk in zip(numbers[day], found, strict=False) if chunk}
            if fields_ or any(logs.values()):
                stored.append(_StoredPane((size, start), codes[day], fields_, {name: log for name, log in logs.items() if log}))
        return stored


class _Rows:
    """The rows of one answer: row keys numbered over all partitions and days, those that `where` leaves out as -1."""

    def __init__(self, dimensions: tuple[str, ...], where: Mapping[str, str | None] | None) -> None:
        self.keys: list[RowKey] = []
        self._number: dict[RowKey, int] = {}
        self._conditions = [(dimensions.index(name), value) for name, value in (where or {}).items()]

    def number(self, keys: Iterable[RowKey]) -> Ints:
        """Number of each key."""
        numbers = []
        for key in keys:
            number = self._number.get(key)
            if number is None:
                wanted = all(key[at] == value for at, value in self._conditions)
                number = self._number[key] = len(self.keys) if wanted else -1
                if wanted:
                    self.keys.append(key)
            numbers.append(number)
        return np.array(numbers, np.int64)

    @staticmethod
    def chunks_of(numbers: Ints) -> list[int]:
        """The chunks in which rows that are wanted may be, given the numbers of a day's codes."""
        found: list[int] = np.unique(np.flatnonzero(numbers >= 0) // chunks.CHUNK).tolist()
        return found


@dataclass(slots=True)
class _StoredPane:
    """One cube in one pane of one partition, as stored."""

    pane: PaneId
    #: Row number of each code of the pane's day.
    numbers: Ints
    fields: dict[int, bytes]
    logs: dict[str, bytes]

    def chunks(self, rows: _Rows) -> Iterable[tuple[Ints, dict[str, Ints]]]:
        """(row numbers, measure -> values) per chunk; only wanted rows."""
        for chunk, stored in self.fields.items():
            code, values = chunks.unpack(stored)
            number = self.numbers[code + chunk * chunks.CHUNK]
            wanted = number >= 0
            if wanted.all():
                yield number, values
            elif wanted.any():
                yield number[wanted], {name: column[wanted] for name, column in values.items()}


class _Sums:
    """Stored measures per row and step, growing as rows appear."""

    def __init__(self, measures: Collection[str] | None, steps: int) -> None:
        self._measures = measures
        self._steps = steps
        self._values: dict[str, Ints] = {}

    def add(self, rows: Ints, values: Mapping[str, Ints], step: int) -> None:
        top = int(rows.max()) + 1
        for name, gains in values.items():
            if self._measures is not None and name not in self._measures:
                continue
            array = self._values.get(name)
            if array is None or len(array) < top:
                grown = np.zeros((max(top, 2 * len(array) if array is not None else 0), self._steps), np.int64)
                if array is not None:
                    grown[: len(array)] = array
                self._values[name] = array = grown
            array[rows, step] += gains

    def arrays(self, rows: int) -> dict[str, Ints]:
        """Measure -> values, shape (rows, steps)."""
        return {
            name: np.pad(array, ((0, rows - len(array)), (0, 0))) if len(array) < rows else array[:rows]
            for name, array in self._values.items()
        }

    def any_row(self, rows: int) -> NDArray[np.bool_]:
        """Which rows have anything but zeros."""
        result = np.zeros(rows, np.bool_)
        for array in self.arrays(rows).values():
            result |= array.any(axis=1)
        return result


@dataclass(slots=True)
class _Sketches:
    """The sketch entries of one answer, by row."""

    _users: list[tuple[Ints, NDArray[np.uint32]]] = field(default_factory=list)
    _dense: set[int] = field(default_factory=set)
    _counts: dict[str, list[tuple[Ints, Ints, Ints]]] = field(default_factory=dict)

    def add(self, stored: _StoredPane, rows: _Rows) -> None:
        for sketch, log in stored.logs.items():
            entries = np.frombuffer(log, np.uint64)
            if sketch == "reach":
                number = stored.numbers[(entries >> _32).astype(np.int64)]
                seen = np.bincount(number[number >= 0])
                self._dense.update(np.flatnonzero(seen >= SPARSE_LIMIT).tolist())
                self._users.append((number[number >= 0], entries[number >= 0].astype(np.uint32)))
            else:
                keys, counts = split_counts(entries)
                number = stored.numbers[(keys >> np.uint64(16)).astype(np.int64)]
                on = number >= 0
                self._counts.setdefault(sketch, []).append((number[on], (keys[on] & np.uint64(0xFFFF)).astype(np.int64), counts[on]))

    def any_row(self, rows: int) -> NDArray[np.bool_]:
        result = np.zeros(rows, np.bool_)
        for number, *_ in (*self._users, *(part for parts in self._counts.values() for part in parts)):
            result[number] = True
        return result

    def estimates(self, rows: int) -> dict[str, Floats]:
        """Approximate measure -> value per row."""
        result: dict[str, Floats] = {}
        for name, (sketch, quantile) in APPROXIMATE.items():
            if quantile is None:
                complete = np.ones(rows, np.bool_)
                complete[list(self._dense)] = False
                result[name] = distinct(_joined(self._users, 0), _joined(self._users, 1).astype(np.uint32), complete)
            else:
                parts = self._counts.get(sketch, [])
                result[name] = quantiles(_joined(parts, 0), _joined(parts, 1), _joined(parts, 2), rows, quantile)
        return result


def _joined(parts: Sequence[tuple[Any, ...]], column: int) -> NDArray[Any]:
    return np.concatenate([part[column] for part in parts]) if parts else np.empty(0, np.int64)


def _stored(measures: Collection[str] | None) -> set[str] | None:
    return None if measures is None else {part for name in measures for part, _ in stored_parts(name)}


def _check_bounds(start: int, end: int, level: Level) -> None:
    seconds = level.size // 1000
    if start % level.size or end % level.size:
        raise TableError(
            f"from and to must be multiples of {seconds} s (UTC): the finest panes still kept for this range are {seconds} s long"
        )
    if start >= end:
        raise TableError("from must lie before to")

"""Reading the KPI tables: windows, series, the ledger and the registry, merged over all partitions.

The only way to read what the workers keep in Redis; any process may, without talking to a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from streams.config import EVENT_TOPICS, Settings, Topic
from streams.kpis.measures import is_exact, stored_parts, with_derived
from streams.panes.ladder import DAY_MS, Ladder, Level
from streams.tables import chunks
from streams.tables.estimating import Sketches
from streams.tables.generations import generation_key, tables_namespace
from streams.tables.held_panes import Found, HeldPanes
from streams.tables.keys import PartitionKeys, partitions_key
from streams.tables.known_rows import ChosenRows, KnownRows
from streams.tables.meta import Meta
from streams.tables.opentables import PaneId
from streams.tables.sortedlog import SortedLog, codes_of
from streams.tables.windows import PartitionLedger, Registered, RowKey, Series, TableError, Window

Ints = NDArray[np.int64]
#: The bookkeeping of every partition of the tables in use.
Books = Mapping[PartitionKeys, Meta]


class TableReader:
    """Answers questions about the tables. Raises `TableError` for one that cannot be answered, redis errors when Redis is away."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis: Any = redis
        self._settings = settings
        self._ladder = Ladder(settings.streams.ladder)
        self._event_topics = {settings.topic(topic) for topic in EVENT_TOPICS}
        self._rows = KnownRows()
        self._held = HeldPanes(settings.http.cache_bytes)
        #: The generation and its partitions, as of the last answer.
        self._partitions: tuple[int, list[PartitionKeys]] = 0, []

    @property
    def held_bytes(self) -> int:
        """Memory of the panes that are held from one answer to the next."""
        return self._held.nbytes

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
        books: Books | None = None,
    ) -> Window:
        """Sum `cube` over [start, end), epoch ms.

        `measures` limits what is read (None: all exact ones); `estimates=False` leaves the sketches unread.
        `where` keeps rows whose dimensions have the given values (dimensions of the cube only). `books` were read for the question.
        """
        dimensions = self._dimensions(cube, where)
        metas = await self._metas() if books is None else books
        level = self._level(start, metas)
        _check_bounds(start, end, level)
        panes = [(lvl.size, s) for lvl, s in self._ladder.cover(start, end, level)]
        rows = ChosenRows(self._rows.of(cube), dimensions, where)
        sketches = Sketches()
        if where or measures is not None:
            read = await self._read(cube, self._events(metas), panes, rows, sketches=estimates)
            sums = _sums(read, _stored(measures), dict.fromkeys(panes, 0), len(rows.keys), 1)
            for stored in (pane for part in read for pane in part):
                sketches.add(stored.numbers, stored.sorted_logs())
        else:
            found = await self._read_whole(cube, self._events(metas), panes, rows, sketches=estimates)
            sums = _sums_of_held(found, len(rows.keys))
            for pane in found:
                sketches.add(pane.numbers, pane.content.logs)
        # Who is in a sketch was counted as an event of the row as well.
        kept = np.flatnonzero(_any_row(sums, len(rows.keys)))
        exact = with_derived({name: values[kept, 0] for name, values in sums.items()}, len(kept))
        return Window(
            cube,
            dimensions,
            start,
            end,
            level.size,
            self._complete(metas, end),
            _chosen(rows.keys, kept),
            exact if measures is None else {name: exact.get(name, np.zeros(len(kept), np.int64)) for name in measures},
            (lambda positions: sketches.estimates(kept[positions])) if estimates else (lambda _: {}),
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
        books: Books | None = None,
    ) -> Series:
        """Exact `measures` of a cube's rows per `step` ms over [start, end). `books` were read for the question."""
        dimensions = self._dimensions(cube, where)
        for name in measures:
            if not is_exact(name):
                raise TableError(f"unknown measure {name!r}")
        metas = await self._metas() if books is None else books
        level = self._level(start, metas)
        _check_bounds(start, end, level)
        if step <= 0 or step % level.size or (end - start) % step:
            raise TableError(
                f"step must be a multiple of {level.size // 1000} s that divides the range, the finest panes still kept for it"
            )
        times = np.arange(start, end, step, dtype=np.int64)
        step_of = {(lvl.size, s): i for i, t in enumerate(times.tolist()) for lvl, s in self._ladder.cover(t, t + step, level)}
        rows = ChosenRows(self._rows.of(cube), dimensions, where)
        read = await self._read(cube, self._events(metas), list(step_of), rows, sketches=False)
        sums = _sums(read, _stored(measures), step_of, len(rows.keys), len(times))
        kept = np.flatnonzero(_any_row(sums, len(rows.keys)))
        arrays = {name: values[kept] for name, values in sums.items()}
        result = {}
        for name in measures:
            total = np.zeros((len(kept), len(times)), np.int64)
            for part, sign in stored_parts(name):
                if part in arrays:
                    total += sign * arrays[part]
            result[name] = total
        watermark = self._watermark(metas)
        complete = times + step <= (watermark if watermark is not None else -1)
        return Series(cube, dimensions, times, step, complete, _chosen(rows.keys, kept), result)

    def alignment(self, start: int, books: Books) -> int:
        """Milliseconds that the bounds of a window starting at `start` must be multiples of. TableError: no longer kept."""
        return self._level(start, books).size

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

    async def bookkeeping(self) -> Books:
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
        """Asked in one go for the generation and the partitions that there were last time; again until these are the ones."""
        generation, partitions = self._partitions
        while True:
            namespace = tables_namespace(self._settings.redis.namespace, generation)
            pipe = self._redis.pipeline(transaction=False)
            pipe.get(generation_key(self._settings))
            pipe.smembers(partitions_key(namespace))
            for keys in partitions:
                pipe.hgetall(keys.meta())
            in_use, members, *stored = await pipe.execute()
            found = int(in_use or 0), self._partitions_of(namespace, members)
            if found == (generation, partitions):
                self._partitions = found
                return {keys: Meta.parse(meta) for keys, meta in zip(partitions, stored, strict=True)}
            generation, partitions = found if found[0] == generation else (found[0], [])

    def _partitions_of(self, namespace: str, members: Collection[bytes]) -> list[PartitionKeys]:
        prefix = self._settings.kafka.topic_prefix + "."
        known = []
        for member in members:
            topic, _, partition = member.decode().rpartition(":")
            if topic.startswith(prefix):
                known.append(PartitionKeys(namespace, topic, int(partition)))
        return sorted(known, key=lambda keys: (keys.topic, keys.partition))

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
        self, cube: str, partitions: Sequence[PartitionKeys], panes: Sequence[PaneId], rows: ChosenRows, *, sketches: bool
    ) -> list[list[_StoredPane]]:
        """The panes of each partition."""
        return await asyncio.gather(*(self._read_partition(keys, cube, panes, rows, sketches) for keys in partitions))

    async def _read_whole(
        self, cube: str, partitions: Sequence[PartitionKeys], panes: Sequence[PaneId], rows: ChosenRows, *, sketches: bool
    ) -> list[Found]:
        """All rows and measures in the panes of every partition, of which only those are read that are not held."""
        reading = (self._held.read(self._redis, keys, cube, panes, rows.cube, sketches=sketches) for keys in partitions)
        return [pane for found in await asyncio.gather(*reading) for pane in found]

    async def _read_partition(
        self, keys: PartitionKeys, cube: str, panes: Sequence[PaneId], rows: ChosenRows, sketches: bool
    ) -> list[_StoredPane]:
        """Everything of one partition in one transaction, so that all panes show the same offset."""
        keys_of_rows = {day: keys.rows(cube, day) for day in sorted({start // DAY_MS for _, start in panes})}
        known = {day: rows.cube.known(key) for day, key in keys_of_rows.items()}
        # Which chunks there are is known from the last time, mostly.
        numbers = {day: _chunks_of(rows.numbers(found)) for day, found in known.items() if found is not None}
        asked = len(numbers) == len(known) and any(numbers.values())
        while True:
            pipe = self._redis.pipeline(transaction=True)
            for key in keys_of_rows.values():
                pipe.get(key)
            if asked:
                fields = {day: [f"{cube}/{n}" for n in chosen] or ["-"] for day, chosen in numbers.items()}
                for size, start in panes:
                    pipe.hmget(keys.pane(size, start), fields[start // DAY_MS])
                    if sketches:
                        for sketch in keys.sketches:
                            pipe.get(keys.sketch(sketch, size, start, cube))
            answers = iter(await pipe.execute())
            codes = {day: rows.numbers(rows.cube.learn(key, next(answers) or b"")) for day, key in keys_of_rows.items()}
            wanted = {day: _chunks_of(found) for day, found in codes.items()}
            if not any(wanted.values()):
                return []
            if asked and numbers == wanted:
                break
            # Rows came to be since the numbers of chunks were asked for: ask again.
            numbers, asked = wanted, True
        codes = {day: _to_whole_chunks(numbers_) for day, numbers_ in codes.items()}
        stored = []
        for size, start in panes:
            day = start // DAY_MS
            found = next(answers)
            logs = {sketch: next(answers) for sketch in keys.sketches} if sketches else {}
            chunks_ = {n: chunk for n, chunk in zip(numbers[day], found, strict=False) if chunk}
            if chunks_ or any(logs.values()):
                stored.append(_StoredPane((size, start), codes[day], chunks_, {name: log for name, log in logs.items() if log}))
        return stored


def _chunks_of(numbers: Ints) -> list[int]:
    """The chunks in which rows that are wanted may be, given the numbers of a day's codes."""
    found: list[int] = np.unique(np.flatnonzero(numbers >= 0) // chunks.CHUNK).tolist()
    return found


def _to_whole_chunks(numbers: Ints) -> Ints:
    """With -1 for codes whose row keys nobody has: Redis lost them, and their owner has not noticed yet."""
    return np.concatenate([numbers, np.full(-len(numbers) % chunks.CHUNK, -1, np.int64)])


@dataclass(slots=True)
class _StoredPane:
    """One cube in one pane of one partition, as stored."""

    pane: PaneId
    #: Row number of each code of the pane's day, -1 for those that are not wanted or not known.
    numbers: Ints
    chunks: dict[int, bytes]
    logs: dict[str, bytes]

    def sorted_logs(self) -> dict[str, SortedLog]:
        """The entries of the wanted rows."""
        entries = {sketch: np.frombuffer(log, np.uint64) for sketch, log in self.logs.items()}
        return {sketch: SortedLog.of_entries(each[self._wanted(codes_of(each))]) for sketch, each in entries.items()}

    def _wanted(self, codes: Ints) -> NDArray[np.bool_]:
        wanted = codes < len(self.numbers)
        wanted[wanted] = self.numbers[codes[wanted]] >= 0
        return wanted


def _sums(
    read: Sequence[Sequence[_StoredPane]], measures: Collection[str] | None, step_of: Mapping[PaneId, int], rows: int, steps: int
) -> dict[str, Ints]:
    """Stored measures (all, or those given) per row and step of everything that was read, arrays of shape (rows, steps)."""
    sums: dict[str, Ints] = {}
    for of_partition in read:
        panes = [stored for stored in of_partition if stored.chunks]
        row, lengths, columns = chunks.unpack_all([chunk for stored in panes for chunk in stored.chunks.values()], measures)
        if not columns:
            continue
        # All at once: each code by its place among the codes of all panes.
        size_of = np.array([len(stored.numbers) for stored in panes])
        begin = np.repeat(np.cumsum(size_of) - size_of, [len(stored.chunks) for stored in panes])
        chunk = np.fromiter((number for stored in panes for number in stored.chunks), np.int64, len(lengths))
        number = np.concatenate([stored.numbers for stored in panes])[row + np.repeat(begin + chunk * chunks.CHUNK, lengths)]
        step = np.repeat([step_of[stored.pane] for stored in panes], [len(stored.chunks) for stored in panes])
        place = number * steps + np.repeat(step, lengths) if steps > 1 else number
        wanted = None if (number >= 0).all() else number >= 0
        if wanted is not None:
            place = place[wanted]
        for name, values in columns.items():
            if name not in sums:
                sums[name] = np.zeros((rows, steps), np.int64)
            np.add.at(sums[name].reshape(-1), place, values if wanted is None else values[wanted])
    return sums


def _sums_of_held(found: Sequence[Found], rows: int) -> dict[str, Ints]:
    """Stored measures per row of everything that was found, arrays of shape (rows, 1)."""
    sums: dict[str, Ints] = {}
    for pane in found:
        # Beyond are rows whose keys Redis lost, and whose owner has not noticed yet.
        known = int(np.searchsorted(pane.content.codes, len(pane.numbers)))
        number = pane.numbers[pane.content.codes[:known]]
        for name, values in pane.content.measures.items():
            if name not in sums:
                sums[name] = np.zeros((rows, 1), np.int64)
            # Each row is once in a pane.
            sums[name][number, 0] += values[:known]
    return sums


def _chosen(keys: list[RowKey], positions: Ints) -> list[RowKey]:
    # Most often it is all of them, ten thousand and more.
    return keys[: len(positions)] if len(positions) and positions[-1] == len(positions) - 1 else [keys[i] for i in positions.tolist()]


def _any_row(sums: Mapping[str, Ints], rows: int) -> NDArray[np.bool_]:
    """Which rows have anything but zeros."""
    result = np.zeros(rows, np.bool_)
    for array in sums.values():
        result |= array.any(axis=1)
    return result


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

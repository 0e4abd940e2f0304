"""Panes as a reader holds them from one answer to the next, so that only what has changed since is read again.

Most of a window is panes that nobody writes to any more. The index of a partition's panes says which offset last touched each of them, and
a writer writes a pane once per offset: as long as writer, offset and the erasure of users that was heeded are the same, so is the pane.
All of one partition comes from one transaction, so that held and read panes show the same offset.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.panes.ladder import DAY_MS
from streams.privacy.erased import ERASING
from streams.tables import chunks
from streams.tables.keys import PartitionKeys, pane_name
from streams.tables.known_rows import CubeRows
from streams.tables.opentables import PaneId
from streams.tables.sortedlog import SortedLog

Ints = NDArray[np.int64]

#: The common start of a partition's keys, a cube and a pane.
_Name = tuple[str, str, PaneId]
#: What a pane takes beside its arrays, roughly.
_OVERHEAD_BYTES = 1_000


@dataclass(frozen=True, slots=True)
class Version:
    """What says that a pane is as it was."""

    writer: bytes
    erasure: bytes
    offset: float

    def goes_on(self, later: Version) -> bool:
        """Whether a pane of this version has become that of the other by being written to."""
        return (self.writer, self.erasure) == (later.writer, later.erasure) and self.offset <= later.offset

    @property
    def lasts(self) -> bool:
        """Not while users are being cut out of the logs, one after the other under one name."""
        return not self.writer.startswith(ERASING.encode())


@dataclass(frozen=True, slots=True, eq=False)
class HeldPane:
    """One cube in one pane of one partition. Never changed: what is read later makes another one."""

    version: Version
    #: Row codes, ascending, and the exact measures of these rows.
    codes: Ints
    measures: Mapping[str, Ints]
    #: Not read every time that the measures are: those of this version, None for none.
    logs: Mapping[str, SortedLog]
    logs_version: Version | None

    @property
    def nbytes(self) -> int:
        """Memory held."""
        columns = (self.codes, *self.measures.values())
        return _OVERHEAD_BYTES + sum(column.nbytes for column in columns) + sum(log.nbytes for log in self.logs.values())


@dataclass(frozen=True, slots=True)
class Found:
    """A pane in an answer: `numbers` holds the row number of each code of the pane's day."""

    pane: PaneId
    numbers: Ints
    content: HeldPane


class HeldPanes:
    """The panes that were read last, up to so many bytes. Those of an answer are held by it however many they are."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        #: Each with the memory that it took when it was kept: registers are filled later, when they are asked for.
        self._panes: OrderedDict[_Name, tuple[HeldPane, int]] = OrderedDict()
        #: Panes that had changed when they were last looked at, and so will have again.
        self._busy: set[_Name] = set()
        self.nbytes = 0

    async def read(
        self, redis: Any, keys: PartitionKeys, cube: str, panes: Sequence[PaneId], rows: CubeRows, *, sketches: bool
    ) -> list[Found]:
        """All rows of a cube in those panes of a partition. Redis errors pass through."""
        if not panes:
            return []
        reading = _Reading(redis, keys, cube, panes, rows, keys.sketches if sketches else ())
        names = {pane: (keys.tag, cube, pane) for pane in panes}
        for pane, name in names.items():
            if name in self._panes:
                reading.held[pane] = self._panes[name][0]
        before = dict(reading.held)
        await reading.run({pane for pane, name in names.items() if name in self._busy})
        for pane, name in names.items():
            self._keep(name, reading.held.get(pane), changed=reading.held.get(pane) is not before.get(pane))
        return [Found(pane, reading.numbers[pane[1] // DAY_MS], content) for pane, content in reading.held.items() if len(content.codes)]

    def _keep(self, name: _Name, content: HeldPane | None, *, changed: bool) -> None:
        self._busy.discard(name)
        if name in self._panes:
            self.nbytes -= self._panes.pop(name)[1]
        if content is not None and content.version.lasts:
            nbytes = content.nbytes
            self._panes[name] = content, nbytes
            self.nbytes += nbytes
            if changed:
                self._busy.add(name)
        while self.nbytes > self._limit:
            gone, (_, nbytes) = self._panes.popitem(last=False)
            self._busy.discard(gone)
            self.nbytes -= nbytes


class _Reading:
    """One look at one cube in one partition: transactions until one of them shows that everything held is as Redis has it."""

    def __init__(
        self, redis: Any, keys: PartitionKeys, cube: str, panes: Sequence[PaneId], rows: CubeRows, sketches: Sequence[str]
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._cube = cube
        self._panes = panes
        self._rows = rows
        self._sketches = sketches
        self._rows_keys = {day: keys.rows(cube, day) for day in sorted({start // DAY_MS for _, start in panes})}
        self._members = [pane_name(*pane) for pane in panes]
        #: Row number of each code, by day.
        self.numbers: dict[int, Ints] = {}
        #: The panes that there are.
        self.held: dict[PaneId, HeldPane] = {}

    async def run(self, busy: set[PaneId]) -> None:
        """Bring `held` up to date. `busy` panes are read every time, as they will have changed."""
        known = {day: self._rows.known(key) for day, key in self._rows_keys.items()}
        asked: set[PaneId] = set()
        if all(numbers is not None for numbers in known.values()):
            asked = busy | {pane for pane in self._panes if pane not in self.held or self._lacks_logs(self.held[pane])}
        chunks_of_day = {day: 0 if numbers is None else _chunks(numbers) for day, numbers in known.items()}
        while stale := await self._look([pane for pane in self._panes if pane in asked], chunks_of_day):
            chunks_of_day = {day: _chunks(numbers) for day, numbers in self.numbers.items()}
            asked = busy | stale

    def _lacks_logs(self, held: HeldPane) -> bool:
        return bool(self._sketches) and held.logs_version != held.version

    async def _look(self, asked: Sequence[PaneId], chunks_of_day: Mapping[int, int]) -> set[PaneId]:
        """One transaction that also reads the panes `asked` for; returns those that have to be read in the next one, none at the end."""
        bases = {pane: held for pane, held in self.held.items() if held.version.lasts}
        versions, read = await self._ask(asked, bases, chunks_of_day)
        # What was read goes on from what was held only where that is of the same history.
        self.held = {p: held for p, held in bases.items() if p in versions and versions[p].lasts and held.version.goes_on(versions[p])}
        for pane in read.keys() & versions.keys():
            day = pane[1] // DAY_MS
            all_rows = _chunks(self.numbers[day]) <= chunks_of_day[day]
            if all_rows and (pane not in bases or pane in self.held):
                self.held[pane] = self._content(versions[pane], *read[pane], bases.get(pane))
        stale = {pane for pane, version in versions.items() if not self._is_current(self.held.get(pane), version)}
        # Nothing that may be cut at any moment is worth keeping for the next transaction.
        return stale if all(version.lasts for version in versions.values()) or not stale else set(versions)

    async def _ask(
        self, asked: Sequence[PaneId], bases: Mapping[PaneId, HeldPane], chunks_of_day: Mapping[int, int]
    ) -> tuple[dict[PaneId, Version], dict[PaneId, tuple[Sequence[bytes | None], dict[str, bytes]]]]:
        """The transaction: the version of every pane that there is; chunks and news of the logs of those asked for. Learns the rows."""
        keys = self._keys
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(keys.meta(), "writer", "erasure")
        pipe.zmscore(keys.panes(), self._members)
        for key in self._rows_keys.values():
            pipe.get(key)
        for pane in asked:
            pipe.hmget(keys.pane(*pane), [f"{self._cube}/{n}" for n in range(chunks_of_day[pane[1] // DAY_MS])] or ["-"])
            for sketch in self._sketches:
                pipe.getrange(keys.sketch(sketch, *pane, self._cube), _known_bytes(bases.get(pane), sketch), -1)
        answers = iter(await pipe.execute())
        writer, erasure = next(answers)
        offsets = zip(self._panes, next(answers), strict=True)
        versions = {pane: Version(writer or b"", erasure or b"", offset) for pane, offset in offsets if offset is not None}
        self.numbers = {day: self._rows.learn(key, next(answers) or b"") for day, key in self._rows_keys.items()}
        return versions, {pane: (next(answers), {sketch: next(answers) for sketch in self._sketches}) for pane in asked}

    def _is_current(self, held: HeldPane | None, version: Version) -> bool:
        return held is not None and held.version == version and not self._lacks_logs(held)

    def _content(self, version: Version, stored: Sequence[bytes | None], news: Mapping[str, bytes], base: HeldPane | None) -> HeldPane:
        if base is not None and self._is_current(base, version):
            return base
        there = [(n, chunk) for n, chunk in enumerate(stored) if chunk]
        row, lengths, measures = chunks.unpack_all([chunk for _, chunk in there])
        codes = row + np.repeat(np.array([n for n, _ in there], np.int64) * chunks.CHUNK, lengths)
        logs = {} if base is None else dict(base.logs)
        for sketch, entries in news.items():
            if _known_bytes(base, sketch):
                logs[sketch] = logs[sketch].with_more(entries)
            elif entries:
                logs[sketch] = SortedLog.of_bytes(entries)
            else:
                logs.pop(sketch, None)
        as_of = version if self._sketches else None if base is None else base.logs_version
        return HeldPane(version, codes, measures, logs, as_of)


def _known_bytes(base: HeldPane | None, sketch: str) -> int:
    """Bytes of a log that are held and cannot have changed: users are only ever added at its end."""
    return base.logs[sketch].length if base is not None and sketch == "reach" and sketch in base.logs else 0


def _chunks(numbers: Ints) -> int:
    """How many chunks the rows of a day are in."""
    return -(-len(numbers) // chunks.CHUNK)

"""The part of a partition's tables that its owner keeps in memory, and what of it has to be written.

Pure: it is told what Redis holds (`load_*`), takes cells in, and says which commands bring Redis up to date. The owner is the only
writer, so it writes absolute values: a chunk of rows as it now is.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import msgpack
import numpy as np
from numpy.typing import NDArray

from streams.compiled import compiled_for_any
from streams.ingest.aggregate import Cells
from streams.ingest.grouping import runs, sum_by
from streams.panes.ladder import DAY_MS, Ladder, Level
from streams.tables import chunks
from streams.tables.kept import Kept
from streams.tables.keys import AT_ONCE, KINDS, Command, PartitionKeys, batched, pane_name
from streams.tables.sketchlogs import CountLog, ReachLog
from streams.tables.windows import RowKey

Ints = NDArray[np.int64]
#: (length of the pane, its start), ms.
PaneId = tuple[int, int]

_NO_ROWS, _NO_CHUNKS = np.zeros((0, 0), np.int64), np.zeros(0, np.bool_)
#: What an open cube takes beside its cells (objects, dictionaries), in cells of 8 bytes.
_OVERHEAD_CELLS = 100


class _Numbers(dict[RowKey, int]):
    """Numbers keys in the order in which they are first asked for."""

    def __missing__(self, key: RowKey) -> int:
        number = self[key] = len(self)
        return number


class RowCodes:
    """Numbers for the row keys of one cube and day, in the order in which they came."""

    def __init__(self, stored: bytes = b"") -> None:
        self._code = _Numbers((tuple(key), i) for i, key in enumerate(unpack_rows(stored)))
        self._new: list[RowKey] = []

    def __len__(self) -> int:
        return len(self._code)

    def of(self, keys: Sequence[RowKey], limit: int) -> tuple[Ints, int]:
        """Codes of the keys, new ones numbered; beyond `limit` keys fold into the row of absent dimensions. Also how many folded."""
        known = len(self._code)
        if known < limit:
            codes = np.fromiter(map(self._code.__getitem__, keys), np.int64, len(keys))
            added = len(self._code) - known
            if len(self._code) <= limit:
                self._new += reversed(list(islice(reversed(self._code), added)))
                return codes, 0
            for _ in range(added):
                self._code.popitem()
        found = list(map(self._code.get, keys))
        folded = 0
        for i, key in enumerate(keys):
            if found[i] is None:
                found[i], fits = self._new_code(key, limit)
                folded += not fits
        return np.array(found, np.int64), folded

    def _new_code(self, key: RowKey, limit: int) -> tuple[int, bool]:
        """A number for a key, and whether it is its own. The same key may have come just before."""
        rest = (None,) * len(key)
        known = self._code.get(key)
        if known is None and len(self._code) >= limit and key != rest:
            folded_into = self._code.get(rest)
            return (self._add(rest) if folded_into is None else folded_into), False
        return (self._add(key) if known is None else known), True

    def take(self) -> bytes:
        """New keys since the last call, as bytes to append."""
        if not self._new:
            return b""
        # What is packed as one list begins with its length.
        packed: bytes = msgpack.packb(self._new)
        header = len(msgpack.Packer().pack_array_header(len(self._new)))
        self._new.clear()
        return packed[header:]

    def _add(self, key: RowKey) -> int:
        code = self._code[key] = len(self._code)
        self._new.append(key)
        return code


def unpack_rows(stored: bytes) -> list[RowKey]:
    """Row keys in the order of their codes."""
    # 0: as large as can be; else msgpack refuses more than 100 MiB.
    unpacker = msgpack.Unpacker(use_list=False, max_buffer_size=0)
    unpacker.feed(stored)
    return list(unpacker)


@dataclass(slots=True)
class _OpenCube:
    """One cube in one open pane."""

    #: The measures that came, each a row of the table; its columns are row numbers.
    _names: tuple[str, ...] = ()
    _table: Ints = field(default_factory=lambda: _NO_ROWS)
    #: Chunks of its columns that changed since they were last written.
    _dirty: NDArray[np.bool_] = field(default_factory=lambda: _NO_CHUNKS)
    #: Made when they are needed: most cubes of most panes have none.
    reach: ReachLog | None = None
    counts: dict[str, CountLog] = field(default_factory=dict)
    #: What Redis has of it: bytes of each sketch, and numbers of chunks.
    logs: dict[str, int] = field(default_factory=dict)
    stored: set[int] = field(default_factory=set)

    def users(self) -> ReachLog:
        if self.reach is None:
            self.reach = ReachLog()
        return self.reach

    def count(self, sketch: str) -> CountLog:
        if sketch not in self.counts:
            self.counts[sketch] = CountLog()
        return self.counts[sketch]

    @property
    def measures(self) -> dict[str, Ints]:
        """Measure -> value by row number."""
        return dict(zip(self._names, self._table, strict=True))

    def add(self, codes: Ints, names: tuple[str, ...], gains: Ints, first: int = 0) -> None:
        """Add a gain per measure and code; those of the codes stand in `gains` from the column `first` on."""
        top = int(codes.max()) + 1
        if names != self._names or top > self._table.shape[1]:
            self._make_room(names, top)
        at = _in_order(len(names)) if names == self._names else np.array([self._names.index(name) for name in names], np.int64)
        _add(codes, at, gains, first, self._table, self._dirty, chunks.CHUNK)

    def _make_room(self, names: tuple[str, ...], rows: int) -> None:
        old = self._table
        self._names += tuple(name for name in names if name not in self._names)
        width = old.shape[1] if rows <= old.shape[1] else max(rows, 2 * old.shape[1])
        self._table = np.zeros((len(self._names), width), np.int64)
        self._table[: old.shape[0], : old.shape[1]] = old
        self._dirty = np.concatenate((self._dirty, np.zeros(-(-width // chunks.CHUNK) - len(self._dirty), np.bool_)))

    def load(self, chunk: int, stored: bytes) -> None:
        rows, values = chunks.unpack(stored)
        self.add(rows + chunk * chunks.CHUNK, tuple(values), np.stack(list(values.values())))
        self._dirty[chunk] = False

    def changed(self) -> list[int]:
        """Numbers of the chunks that changed since the last call."""
        numbers: list[int] = np.flatnonzero(self._dirty).tolist()
        self._dirty[:] = False
        return numbers

    def take_dirty(self) -> dict[int, bytes]:
        """The chunks that changed since the last call, as they now are."""
        numbers = self.changed()
        return dict(zip(numbers, chunks.pack_all(self.measures, numbers), strict=True))

    @property
    def cells(self) -> int:
        users = self.reach.cells if self.reach is not None else 0
        return _OVERHEAD_CELLS + self._table.size + users + sum(log.cells for log in self.counts.values())


class OpenTables:
    """The open panes of one topic-partition."""

    def __init__(self, keys: PartitionKeys, ladder: Ladder, cubes: Iterable[str], *, max_rows: int, known: Iterable[PaneId]) -> None:
        self.keys = keys
        self._ladder = ladder
        self._cubes = tuple(cubes)
        self._coded = (*self._cubes, KINDS)
        self._max_rows = max_rows
        #: Every pane that Redis holds.
        self.known: set[PaneId] = set(known)
        self._open: OrderedDict[PaneId, dict[str, _OpenCube]] = OrderedDict()
        #: Cells of each open pane, as of its last load or write, and of all.
        self._held: dict[PaneId, int] = {}
        self.cells = 0
        self._codes: dict[tuple[str, int], RowCodes] = {}
        self._touched: set[PaneId] = set()
        self._fresh_days: set[int] = set()
        #: Lengths of keys that no index lists, and of the index.
        self.kept = Kept(keys)
        #: Row keys that were folded for want of room, per cube.
        self.folded: dict[str, int] = {}

    # What has to be in memory before cells can be added.

    def kept_panes(self, starts: Iterable[int], record_time: int, levels: Sequence[Level]) -> list[PaneId]:
        """Every pane of `levels` that cells at `starts` land in when records of `record_time` were read."""
        starts = np.fromiter(starts, np.int64)
        found: list[PaneId] = []
        for level in levels:
            found += [(level.size, int(s)) for s in np.unique(starts - starts % level.size) if level.kept(int(s), record_time)]
        return found

    def missing_panes(self, panes: Iterable[PaneId]) -> list[PaneId]:
        """Those that Redis holds but memory does not."""
        return [pane for pane in panes if pane in self.known and pane not in self._open]

    def missing_days(self, starts: Iterable[int]) -> list[int]:
        """UTC days whose row codes are not in memory."""
        days = {start // DAY_MS for start in starts}
        return sorted(day for day in days if (KINDS, day) not in self._codes)

    def load_day(self, day: int, stored: Mapping[str, bytes]) -> None:
        """Take in the row codes of a day, cube -> bytes as stored."""
        for cube in self._coded:
            self._codes[cube, day] = RowCodes(stored.get(cube, b""))

    def load_pane(self, pane: PaneId, fields: Mapping[bytes, bytes], sketches: Mapping[tuple[str, str], bytes]) -> None:
        """Take in a pane as stored: chunk fields, and (sketch, cube) -> log."""
        cubes: dict[str, _OpenCube] = {}
        for name, stored in fields.items():
            cube, _, chunk = name.decode().rpartition("/")
            opened = cubes.setdefault(cube, _OpenCube())
            opened.stored.add(int(chunk))
            if stored:  # nothing is left of a chunk whose rows became zero
                opened.load(int(chunk), stored)
        for (sketch, cube), log in sketches.items():
            if log:
                entries = np.frombuffer(log, np.uint64)
                opened = cubes.setdefault(cube, _OpenCube())
                opened.logs[sketch] = len(log)
                if sketch == "reach":
                    opened.reach = ReachLog(entries)
                else:
                    opened.counts[sketch] = CountLog(entries)
        self._open[pane] = cubes
        self._weigh(pane)

    # Taking cells in.

    def own_measures(self, days: Iterable[int], kinds: Iterable[str], limit: int) -> set[str]:
        """The event kinds that get a measure of their own: the first `limit` of each day. Needed days must have been loaded."""
        allowed = set(kinds)
        for day in days:
            codes = self._codes[KINDS, day]
            for kind in sorted(allowed):
                if codes.of([(kind,)], limit)[1]:
                    allowed.discard(kind)
            self._fresh_days.add(day)
        return allowed

    def add(self, cube: str, cells: Cells, record_time: int, levels: Sequence[Level] | None = None) -> None:
        """Add a cube's cells to every pane still kept, of all levels or of some. Needed days and panes must have been loaded."""
        codes = self._codes_of(cube, cells)
        names = tuple(cells.values)
        gains = np.stack(list(cells.values.values())) if names else np.zeros((0, len(codes)), np.int64)
        kept: dict[Level, set[int]] = {}
        for level in levels or self._ladder.levels:
            pane_of_cell = cells.panes - cells.panes % level.size
            kept[level] = {start for start, _ in runs(pane_of_cell) if level.kept(start, record_time)}
            for start, at in runs(pane_of_cell):
                if start in kept[level]:
                    self._cube(cube, (level.size, start)).add(codes[at], names, gains, at.start)
            for sketch, (cell, bucket, count) in cells.buckets.items():
                for start, at in runs(pane_of_cell[cell]):
                    if start in kept[level]:
                        keys, inverse = np.unique((codes[cell[at]] << 16) | bucket[at], return_inverse=True)
                        self._cube(cube, (level.size, start)).count(sketch).add(
                            keys.astype(np.uint64), sum_by(inverse, count[at], len(keys))
                        )
        if cells.users is not None:
            self._add_users(cube, kept, cells.panes, codes, *cells.users)

    def _codes_of(self, cube: str, cells: Cells) -> Ints:
        codes = np.empty(len(cells.rows), np.int64)
        for day, at in runs(cells.panes // DAY_MS):
            keys, row = cells.keys, cells.rows[at]
            if len(row) < len(codes):
                present, row = np.unique(row, return_inverse=True)
                keys = [keys[number] for number in present.tolist()]
            numbers, folded = self._codes[cube, day].of(keys, self._max_rows)
            if folded:
                self.folded[cube] = self.folded.get(cube, 0) + folded
            codes[at] = numbers[row]
            self._fresh_days.add(day)
        return codes

    def _cube(self, cube: str, pane: PaneId) -> _OpenCube:
        self._touched.add(pane)
        cubes = self._open.setdefault(pane, {})
        if (opened := cubes.get(cube)) is None:
            opened = cubes[cube] = _OpenCube()
        return opened

    def _add_users(
        self, cube: str, kept: Mapping[Level, Container[int]], pane_of_cell: Ints, codes: Ints, cell: Ints, hashes: NDArray[np.uint32]
    ) -> None:
        """Add users to the panes of every level that are still kept.

        What changes nothing in a pane changes nothing in the coarser pane around it, so that each level goes on with what the one before
        it kept.
        """
        entries = (codes[cell].astype(np.uint64) << np.uint64(32)) | hashes
        fresh = {start: entries[at] for start, at in runs(pane_of_cell[cell])}
        for level, starts in kept.items():
            parts: dict[int, list[NDArray[np.uint64]]] = {}
            for start, part in fresh.items():
                if len(part):
                    parts.setdefault(start - start % level.size, []).append(part)
            fresh = {start: found[0] if len(found) == 1 else np.concatenate(found) for start, found in parts.items()}
            for start, part in fresh.items():
                if start in starts:
                    fresh[start] = part[self._cube(cube, (level.size, start)).users().add(part)]

    # What has to be written.

    def take_commands(self, applied_offset: int, ttl: int) -> list[Command]:
        """Commands that bring Redis up to date with memory; `ttl` in seconds is a backstop for abandoned keys."""
        commands: list[Command] = []
        for day in sorted(self._fresh_days):
            for cube in self._coded:
                if new := self._codes[cube, day].take():
                    key = self.keys.rows(cube, day)
                    commands += [("APPEND", key, new), ("EXPIRE", key, ttl)]
                    self.kept.has_more(key, len(new))
        for pane in sorted(self._touched):
            commands += self._pane_commands(pane, ttl)
            commands.append(("ZADD", self.keys.panes(), applied_offset, pane_name(*pane)))
            self._open.move_to_end(pane)
            self._weigh(pane)
        if not self._touched <= self.known:
            self.known |= self._touched
            self.kept.is_now(self.keys.panes(), len(self.known))
        self._touched.clear()
        self._fresh_days.clear()
        return commands

    def _pane_commands(self, pane: PaneId, ttl: int) -> list[Command]:
        commands: list[Command] = []
        fields: list[str | bytes] = []
        more = 0
        for cube, opened in self._open[pane].items():
            for chunk, packed in opened.take_dirty().items():
                fields += [f"{cube}/{chunk}", packed]
                more += chunk not in opened.stored
                opened.stored.add(chunk)
            logs: list[tuple[str, bytes, bool]] = [] if opened.reach is None else [("reach", opened.reach.take(), False)]
            logs += [(name, *log.take()) for name, log in opened.counts.items()]
            for sketch, entries, replaces in logs:
                if entries:
                    key = self.keys.sketch(sketch, *pane, cube)
                    commands += [("SET" if replaces else "APPEND", key, entries), ("EXPIRE", key, ttl)]
                    before = opened.logs.get(sketch, 0)
                    opened.logs[sketch] = len(entries) if replaces else before + len(entries)
                    more += opened.logs[sketch] - before
        key = self.keys.pane(*pane)
        # Not how large it is now: that would pass over what Redis has lost meanwhile.
        self.kept.has_more(key, more)
        # Names and values in turn.
        commands += [("HSET", key, *some) for some in batched(fields, 2 * AT_ONCE)]
        if fields:
            commands.append(("EXPIRE", key, ttl))
        return commands

    def take_expired(self, record_time: int) -> list[Command]:
        """Commands that delete the panes no longer kept when records of `record_time` were read."""
        keep = {level.size: level for level in self._ladder.levels}
        gone = [pane for pane in self.known if pane[0] not in keep or not keep[pane[0]].kept(pane[1], record_time)]
        if not gone:
            return []
        commands: list[Command] = []
        for pane in gone:
            self.known.discard(pane)
            self._open.pop(pane, None)
            self._weigh(pane)
            commands.append(("UNLINK", self.keys.pane(*pane), *self.keys.pane_sketches(*pane, self._cubes)))
            commands.append(("ZREM", self.keys.panes(), pane_name(*pane)))
        self.kept.is_now(self.keys.panes(), len(self.known))
        self.kept.are_gone(self.keys.pane(*pane) for pane in gone)
        left = {start // DAY_MS for _, start in self.known}
        for day in {start // DAY_MS for _, start in gone} - left:
            rows = [self.keys.rows(cube, day) for cube in self._coded]
            commands.append(("UNLINK", *rows))
            self.kept.are_gone(rows)
            for cube in self._coded:
                self._codes.pop((cube, day), None)
        return commands

    # Memory.

    def _weigh(self, pane: PaneId) -> None:
        """Bring `cells` up to date after a pane was loaded, written or dropped."""
        now = sum(opened.cells for opened in self._open[pane].values()) if pane in self._open else 0
        self.cells += now - self._held.pop(pane, 0)
        if pane in self._open:
            self._held[pane] = now

    def forget(self, cells: int) -> None:
        """Drop the panes used longest ago (Redis has them) until at most `cells` of 8 bytes are held, and row codes that no pane needs."""
        while self.cells > cells and len(self._open) > 1:
            pane, _ = self._open.popitem(last=False)
            self._weigh(pane)
        needed = {start // DAY_MS for _, start in self._open}
        for cube, day in [key for key in self._codes if key[1] not in needed]:
            del self._codes[cube, day]


@functools.cache
def _in_order(count: int) -> Ints:
    return np.arange(count)


@compiled_for_any
def _add(codes: Ints, at: Ints, gains: Ints, first: int, table: Ints, dirty: NDArray[np.bool_], chunk: int) -> None:
    """Add gains[m, first + i] to table[at[m], codes[i]], and mark the chunks of the codes, of so many codes each."""
    for i in range(len(codes)):
        dirty[codes[i] // chunk] = True
    for m in range(len(at)):
        for i in range(len(codes)):
            table[at[m], codes[i]] += gains[m, first + i]

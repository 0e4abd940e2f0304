"""Kafka records of one partition as columns over the bytes they were fetched in: no object is made of a record until one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: What the rows of the columns are. A key or value lies in the buffer from its start to its stop; both are NOTHING where there is none.
OFFSET, TIMESTAMP, KEY_START, KEY_STOP, VALUE_START, VALUE_STOP = range(6)
NOTHING = -1


class RecordLike(Protocol):
    """A Kafka record of whatever client."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""

    @property
    def timestamp(self) -> int:
        """The record's own time, epoch ms."""

    @property
    def key(self) -> bytes | None:
        """The key's bytes."""

    @property
    def value(self) -> bytes | None:
        """The value's bytes."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record."""

    offset: int
    #: The record's own time, epoch ms.
    timestamp: int
    key: bytes | None
    value: bytes | None


class Records(Sequence[Record]):
    """Records in offset order. A slice shares the buffer, and keeps it."""

    def __init__(self, buffer: bytes, columns: Ints) -> None:
        """`columns`: shape (6, records), see OFFSET."""
        self.buffer = buffer
        self._columns = columns

    @classmethod
    def of(cls, records: Iterable[RecordLike]) -> Records:
        """The same from objects."""
        parts: list[bytes] = []
        rows: list[tuple[int, ...]] = []
        end = 0
        for record in records:
            row = [record.offset, record.timestamp]
            for content in (record.key, record.value):
                if content is None:
                    row += [NOTHING, NOTHING]
                else:
                    parts.append(content)
                    row += [end, end + len(content)]
                    end += len(content)
            rows.append(tuple(row))
        return cls(b"".join(parts), np.array(rows, np.int64).reshape(-1, 6).T.copy())

    @classmethod
    def joined(cls, parts: Sequence[Records]) -> Records:
        """One after the other. Neighbours that share their buffer go on sharing it."""
        if len(parts) == 1:
            return parts[0]
        buffers: list[bytes] = []
        shifts: list[int] = []
        end = 0
        for part in parts:
            if not buffers or buffers[-1] is not part.buffer:
                buffers.append(part.buffer)
                end += len(part.buffer)
            shifts.append(end - len(part.buffer))
        columns = np.concatenate([part._columns for part in parts], axis=1) if parts else np.empty((6, 0), np.int64)
        if shifts and shifts[-1]:
            places = columns[KEY_START:]
            places += np.where(places == NOTHING, 0, np.repeat(shifts, [len(part) for part in parts]))
        return cls(buffers[0] if len(buffers) == 1 else b"".join(buffers), columns)

    def __len__(self) -> int:
        return int(self._columns.shape[1])

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> Records: ...
    def __getitem__(self, at: int | slice) -> Record | Records:
        if isinstance(at, slice):
            return Records(self.buffer, self._columns[:, at])
        offset, timestamp, *places = self._columns[:, at].tolist()
        return Record(offset, timestamp, self._bytes(*places[:2]), self._bytes(*places[2:]))

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def _bytes(self, start: int, stop: int) -> bytes | None:
        return None if start == NOTHING else self.buffer[start:stop]

    def column(self, which: int) -> Ints:
        """A row of the columns: OFFSET, TIMESTAMP or a start or stop."""
        column: Ints = self._columns[which]
        return column

    def _sizes(self) -> Ints:
        sizes: Ints = (self._columns[[KEY_STOP, VALUE_STOP]] - self._columns[[KEY_START, VALUE_START]]).sum(axis=0)
        return sizes

    @property
    def nbytes(self) -> int:
        """Bytes of keys and values."""
        return int(self._sizes().sum())

    def fitting(self, nbytes: int) -> int:
        """How many from the beginning have no more bytes of keys and values together."""
        return int(np.searchsorted(np.cumsum(self._sizes()), nbytes, side="right"))

    def rows(self, order: Ints) -> Records:
        """Some of the records, in that order."""
        return Records(self.buffer, self._columns[:, order])

    def at_or_after(self, offset: int) -> Records:
        """Those whose offset is not before `offset`."""
        return self[int(np.searchsorted(self._columns[OFFSET], offset)) :] if len(self) and self._columns[OFFSET, 0] < offset else self


@dataclass(slots=True)
class _Part:
    records: Records
    #: When they came, by the clock of `Waiting.append`.
    came: float
    nbytes: int


class Waiting:
    """Records that wait for their turn, in the parts in which they came."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._length = 0
        #: Bytes of their keys and values.
        self.nbytes = 0

    def __len__(self) -> int:
        return self._length

    @property
    def since(self) -> float:
        """When the first of them came, by the clock of `append`. There must be some."""
        return self._parts[0].came

    def append(self, records: Records, now: float) -> None:
        """Add records that come after all others. `now` in seconds."""
        if len(records):
            self._parts.append(_Part(records, now, records.nbytes))
            self._length += len(records)
            self.nbytes += self._parts[-1].nbytes

    def first(self, count: int, nbytes: int) -> Records:
        """At most so many from the beginning, and so many bytes of keys and values, but one record at least; they stay."""
        found: list[Records] = []
        for part in self._parts:
            fitting = part.records if part.nbytes <= nbytes else part.records[: max(part.records.fitting(nbytes), not found)]
            found.append(fitting[:count])
            count -= len(found[-1])
            nbytes -= part.nbytes
            if count <= 0 or nbytes <= 0:
                break
        return Records.joined(found)

    def drop(self, count: int) -> None:
        """Let go of so many from the beginning."""
        self._length -= count
        while count:
            part = self._parts[0]
            self.nbytes -= part.nbytes
            if len(part.records) > count:
                part.records = part.records[count:]
                part.nbytes = part.records.nbytes
                self.nbytes += part.nbytes
                return
            count -= len(part.records)
            del self._parts[0]

    def clear(self) -> None:
        """Let go of all."""
        self._parts.clear()
        self._length = self.nbytes = 0

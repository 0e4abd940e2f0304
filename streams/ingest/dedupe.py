"""Exact duplicates: digests of the event ids applied within the horizon, with the record time at which they were applied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.tables.hashtable import PairTable

Ints = NDArray[np.int64]
Digests = NDArray[np.uint64]

#: Ids are stored in buckets of this length by record time, so that old ones go without being read. The same whatever the horizon: one that
#: was changed must find what was stored before.
BUCKET_MS = 300_000
#: A bucket is stored in parts, numbered from 0: one that holds so many rows of 24 bytes, nearly 4 MiB, is not appended to any more. To
#: lengthen a long string Redis copies it, in which time it does nothing else; of shorter ones more would be room that they keep to grow.
PART_ROWS = 160_000
#: (bucket, number of the part).
Part = tuple[int, int]
#: Buckets before the horizon that an owner may have left to its successor.
_LEFT_OVER = 12


def digests(ids: Sequence[str]) -> Digests:
    """128-bit digests, shape (n, 2). Ids of 128 code points never need more; two ids share one with probability 2^-128."""
    return digests_of_bytes([i.encode("utf-8", "surrogatepass") for i in ids])


def digests_of_bytes(ids: Iterable[bytes | memoryview]) -> Digests:
    """`digests` of ids given as UTF-8."""
    return np.frombuffer(b"".join(map(xxhash.xxh3_128_digest, ids)), np.uint64).reshape(-1, 2)


class Seen:
    """Which event ids were applied when. Times are record times, ms."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.bucket = BUCKET_MS
        self._table = PairTable()
        #: The last part of each bucket that is stored and not deleted yet, and the rows in it.
        self._last: dict[int, tuple[int, int]] = {}
        self._pruned_at = 0
        #: Record time from which on every id is held, ms; 0 while none was forgotten.
        self._complete_from = 0

    def __len__(self) -> int:
        return len(self._table)

    def load(self, part: Part, stored: Digests) -> None:
        """Take in a stored part, rows of (hi, lo, record time): of an id that was applied more than once the newest time counts.

        The parts of a bucket are to come in order.
        """
        self._table.raise_to(*_columns(stored), stored[:, 2].astype(np.int64))
        self._last[part[0]] = (part[1], len(stored))

    def admit(self, ids: Digests, times: Ints, newest: int = 0) -> tuple[NDArray[np.bool_], Digests]:
        """Which events are the first of their id within the horizon; and the rows (hi, lo, time) to store for them.

        `ids` are the digests of their ids, in offset order.
        `newest` is the newest record time before them. Record times may go back by as much as a bucket is long; what was applied longer ago
        does not count, whether it happens to be held still or not, so that a restart changes nothing.
        """
        oldest = np.maximum(np.maximum.accumulate(times), newest) - self.horizon - self.bucket
        admitted = self._table.admit(*_columns(ids), times, oldest, self.horizon)
        rows = np.column_stack((ids[admitted], times[admitted].astype(np.uint64)))
        return admitted, rows

    def parts(self, rows: Digests) -> Iterator[tuple[Part, Digests]]:
        """Which parts the rows are to be appended to. To be asked once for the rows of each call of `admit`."""
        bucket = rows[:, 2] // np.uint64(self.bucket)
        for number in np.unique(bucket).tolist():
            part, held = self._last.get(number, (0, 0))
            if held >= PART_ROWS:
                part, held = part + 1, 0
            its = rows[bucket == number]
            self._last[number] = (part, held + len(its))
            yield (number, part), its

    def prune(self, record_time: int) -> list[Part]:
        """Forget what can no longer be repeated once records of `record_time` were read; returns the parts that may be deleted."""
        oldest = record_time - self.horizon - self.bucket
        if oldest - self._pruned_at < self.bucket:
            return []
        self._table.retain(oldest)
        self._pruned_at = oldest
        gone = sorted(bucket for bucket in self._last if bucket < oldest // self.bucket)
        return [(bucket, part) for bucket in gone for part in range(self._last.pop(bucket)[0] + 1)]

    def forget(self, limit: int) -> int:
        """Hold at most `limit` ids: the oldest go, a tenth more than they must, so that it is not done for every batch. How many went."""
        if len(self._table) <= limit:
            return 0
        times = self._table.items()[2]
        at_least = int(np.partition(times, len(times) - max(1, limit * 9 // 10))[len(times) - max(1, limit * 9 // 10)]) + 1
        self._complete_from = max(self._complete_from, at_least)
        return self._table.retain(at_least)

    def known_for(self, record_time: int) -> int:
        """For how long repeats are found when records of `record_time` were read, ms: the horizon, unless ids were forgotten."""
        return max(0, min(self.horizon, record_time - self._complete_from))

    def live_buckets(self, record_time: int) -> list[int]:
        """Buckets that may be stored when records of `record_time` were read: those still needed, and those not deleted yet."""
        return list(range((record_time - self.horizon) // self.bucket - _LEFT_OVER, record_time // self.bucket + 1))


def _columns(ids: Digests) -> tuple[Digests, Digests]:
    # Copies also of a single one: what is compiled for arrays that must not be written to would be compiled anew.
    return ids[:, 0].copy(), ids[:, 1].copy()

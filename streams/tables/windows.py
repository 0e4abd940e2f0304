"""What a read of the tables gives back: plain values, merged over partitions, panes and topics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: A row's key: the values of the cube's dimensions, None where the events had none.
RowKey = tuple[str | None, ...]


class TableError(ValueError):
    """A question that the tables cannot answer; the message says what there is."""


@dataclass
class Window:
    """A cube summed over [start, end). Rows without events are left out."""

    cube: str
    dimensions: tuple[str, ...]
    #: Epoch ms, aligned to `alignment`.
    start: int
    end: int
    alignment: int
    #: Every partition's watermark has passed `end`.
    complete: bool
    rows: list[RowKey]
    #: Exact measure -> integer per row, in the measure's unit; stored, derived and every kind seen.
    measures: dict[str, Ints]
    #: Given positions in `rows`: approximate measure (reach, dwell_p50, ...) -> value of each, NaN where there is nothing to estimate from.
    #: They take time for each row, so that whoever needs few asks for few. Without sketches there are none.
    estimates_of: Callable[[Ints], dict[str, Floats]] = field(default=lambda _: {}, repr=False)

    @cached_property
    def estimates(self) -> dict[str, Floats]:
        """The approximate measures of all rows."""
        return self.estimates_of(np.arange(len(self.rows)))


@dataclass(slots=True)
class Series:
    """Exact measures of a cube's rows over consecutive steps."""

    cube: str
    dimensions: tuple[str, ...]
    #: Start of each step, epoch ms; steps are `step` ms long and follow each other without gaps.
    times: Ints
    step: int
    #: Per step: every partition's watermark has passed its end.
    complete: NDArray[np.bool_]
    rows: list[RowKey]
    #: Exact measure -> integers, shape (rows, steps).
    measures: dict[str, Ints]


@dataclass(frozen=True, slots=True)
class PartitionLedger:
    """Where every record of one topic-partition went. Offsets are -1 where there is none; times are epoch ms."""

    topic: str
    partition: int
    start_offset: int
    applied_offset: int
    read: int
    applied: int
    duplicate: int
    too_late: int
    quarantined: int
    #: No event older than this is expected any more; None before the first event.
    watermark: int | None
    #: Newest record time applied; None before the first record.
    record_time: int | None
    #: What broke the continuity of log and tables: kind -> note (see streams/ingest/continuity.py), as stored.
    notes: Mapping[str, bytes] = field(default_factory=dict)
    #: The topic has no such partition any more.
    retired: bool = False


#: A campaign of the registry as its producer sent it (the fields of `events.models.Campaign`, as JSON values).
Registered = dict[str, Any]

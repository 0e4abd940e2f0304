"""A decoded batch: the valid events of one topic, field by field, ready for vectorised work."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.ingest.coded import Coded
from streams.ingest.texts import Texts

Ints = NDArray[np.int64]

#: Marks an absent optional integer (dwell_ms, load_ms, rating): all of them are >= 0 when present.
ABSENT = -1
_EMPTY = np.empty(0, np.int64)


@dataclass(slots=True)
class Columns:
    """Valid events of one batch of one topic. All columns have the same length, in offset order; those of other topics are empty.

    Money is integer micros of the reporting currency. Times are epoch milliseconds, UTC.
    """

    #: Position of each event in the batch of records it was decoded from.
    index: Ints
    #: The Kafka record's own time, ms.
    record_time: Ints
    #: When it happened, ms. For spend the event's own occurred_at, not its period.
    occurred_at: Ints
    #: Digests of the event ids, shape (n, 2): see `dedupe.digests`.
    event_id: NDArray[np.uint64]
    #: Every name of `config.DIMENSIONS` is there. None where absent.
    dimensions: dict[str, Coded]
    #: None where absent.
    user_id: Texts
    #: cost of clicks and engagements, value of conversions, amount of spend reports.
    micros: Ints
    #: Conversions and engagements.
    kind: Coded = field(default_factory=lambda: Coded(_EMPTY, []))
    #: Conversions.
    customer_type: Coded = field(default_factory=lambda: Coded(_EMPTY, []))
    #: Engagements. ABSENT where absent.
    dwell_ms: Ints = field(default_factory=lambda: _EMPTY)
    load_ms: Ints = field(default_factory=lambda: _EMPTY)
    #: Hundredths.
    rating: Ints = field(default_factory=lambda: _EMPTY)
    #: Spend. Epoch minutes.
    period_start: Ints = field(default_factory=lambda: _EMPTY)
    period_end: Ints = field(default_factory=lambda: _EMPTY)
    revision: Ints = field(default_factory=lambda: _EMPTY)

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, order: Ints) -> Columns:
        """Some of the events, in that order."""

        def pick(column: Any) -> Any:
            if isinstance(column, dict):
                return {name: each.rows(order) for name, each in column.items()}
            if not len(column):
                return column
            return column.rows(order) if isinstance(column, Coded | Texts) else column[order]

        return Columns(**{f.name: pick(getattr(self, f.name)) for f in fields(Columns)})

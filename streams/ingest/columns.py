"""A decoded batch: the valid events of one topic, field by field, ready for vectorised work."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

#: Marks an absent optional integer (dwell_ms, load_ms, rating): all of them are >= 0 when present.
ABSENT = -1


@dataclass(slots=True)
class Columns:
    """Valid events of one batch of one topic. All sequences have the same length, in offset order.

    Money is integer micros of the reporting currency. Times are epoch milliseconds, UTC.
    """

    #: Position of each event in the batch of records it was decoded from.
    index: Ints
    #: The Kafka record's own time, ms.
    record_time: Ints
    #: When it happened, ms. For spend the event's own occurred_at, not its period.
    occurred_at: Ints
    event_id: list[str]
    #: Dimension -> value per event, None where absent. Every name of `config.DIMENSIONS` is there.
    dimensions: dict[str, list[str | None]]
    #: None where absent, and all None for topics without it.
    user_id: list[str | None]
    #: cost of clicks and engagements, value of conversions, amount of spend reports.
    micros: Ints
    #: `kind` of conversions and engagements; empty for the other topics.
    kind: list[str] = field(default_factory=list)
    #: `customer_type` of conversions; empty for the other topics.
    customer_type: list[str | None] = field(default_factory=list)
    #: Engagements only, else empty. ABSENT where absent.
    dwell_ms: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    load_ms: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    #: Hundredths.
    rating: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    #: Spend only, else empty. Epoch minutes.
    period_start: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    period_end: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    revision: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.index)

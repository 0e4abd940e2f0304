"""What a judge looks at: the trailing counts of every row of a cube, up to the watermark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alerts.pacing.plan import Plan
from alerts.pacing.planned import Planned
from streams.tables.windows import Registered, RowKey

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

SECOND = 1_000
FINE = 10 * SECOND
MINUTE = 60 * SECOND
QUARTER = 15 * MINUTE
HOUR = 60 * MINUTE
DAY = 24 * HOUR


@dataclass(frozen=True, slots=True)
class Mask:
    """A time that a baseline must not learn from: [start, end), epoch ms. `measures` None means all."""

    start: int
    end: int
    measures: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Strip:
    """Consecutive steps of some measures for the same rows: arrays of shape (rows, steps), the last step ends at `end`."""

    step: int
    end: int
    measures: Mapping[str, Ints]

    @property
    def steps(self) -> int:
        """How many steps each row has."""
        return next((int(values.shape[1]) for values in self.measures.values()), 0)

    @property
    def start(self) -> int:
        """Epoch ms at which the first step begins."""
        return self.end - self.steps * self.step

    def sum(self, measure: str, start: int, end: int) -> Ints:
        """Sum per row over the steps that begin in [start, end); steps outside the strip count as nothing."""
        values = self.measures[measure]
        first = max(0, -(-(start - self.start) // self.step))
        last = min(self.steps, max(0, -(-(end - self.start) // self.step)))
        total: Ints = values[:, first:last].sum(axis=1, dtype=np.int64) if last > first else np.zeros(len(values), np.int64)
        return total


@dataclass(slots=True)
class History:
    """A cube's rows up to `end`, which every partition's watermark has passed.

    `fine` holds steps of 10 s, `minutes` of 60 s; `quarters` (15 min, spend only) and `hours` serve the pacing judges and may be empty.
    Each strip has one line per entry of `rows`.
    """

    cube: str
    dimensions: tuple[str, ...]
    rows: Sequence[RowKey]
    #: Epoch ms, a multiple of 10 s: the time that is judged.
    end: int
    fine: Strip
    minutes: Strip
    quarters: Strip | None = None
    hours: Strip | None = None
    #: Spend micros per row since the start of the campaign's month, where a monthly budget makes it worth knowing.
    month_spend: Ints | None = None
    masks: Mapping[RowKey, Sequence[Mask]] = field(default_factory=dict)
    campaigns: Mapping[str, Registered] = field(default_factory=dict)
    #: What each campaign may spend, for those that have a budget.
    plans: Mapping[str, Plan] = field(default_factory=dict)
    currency: str = "USD"
    #: The plans by row; made from `plans` where it is not given.
    planned: Planned | None = None
    #: Sums that were asked for: (measure, start) -> per row.
    _sums: dict[tuple[str, int], Ints] = field(default_factory=dict, init=False, repr=False)

    def trailing(self, measure: str, seconds: int) -> Ints:
        """Sum per row over the last `seconds`; beyond the fine steps the far bound is rounded up to a whole minute."""
        return self.since(measure, self.end - seconds * SECOND)

    def since(self, measure: str, start: int) -> Ints:
        """Sum per row over [start, end). Not to be changed: whoever asks again gets the same array."""
        known = self._sums.get((measure, start))
        if known is None:
            if start >= self.fine.start:
                known = self.fine.sum(measure, start, self.end)
            else:
                known = self.minutes.sum(measure, start, self.fine.start) + self.fine.sum(measure, self.fine.start, self.end)
            self._sums[measure, start] = known
        return known

    def spent_since(self, start: int) -> Ints:
        """Spend micros per row over [start, end) for a start of today or so, a multiple of 15 minutes."""
        if self.quarters is None:
            return self.since("spend", start)
        return self.quarters.sum("spend", start, self.quarters.end) + self.fine.sum("spend", max(start, self.quarters.end), self.end)

    def key_of(self, row: RowKey) -> dict[str, str | None]:
        """A row as the contract shows it: {"campaign_id": "c-1"}."""
        return dict(zip(self.dimensions, row, strict=True))

    def with_plans(self) -> Planned:
        """The rows that have a plan."""
        if self.planned is None:
            self.planned = Planned.of(self.rows, self.plans)
        return self.planned

    def plan_of(self, row: RowKey) -> Plan | None:
        """The plan of a row of the cube `campaign`."""
        return self.plans.get(row[0]) if row and row[0] is not None else None

    def campaign_of(self, row: RowKey) -> Registered | None:
        """The registry's entry for a row that is keyed by a campaign."""
        if "campaign_id" not in self.dimensions:
            return None
        campaign_id = row[self.dimensions.index("campaign_id")]
        return self.campaigns.get(campaign_id) if campaign_id is not None else None

    def title_of(self, row: RowKey) -> str:
        """How a message names the row: `Spring sale (c-1)`, `channel social`, `all campaigns`."""
        campaign = self.campaign_of(row)
        parts = []
        for dimension, value in zip(self.dimensions, row, strict=True):
            if dimension == "campaign_id":
                name = campaign.get("name") if campaign else None
                parts.append(f"{name} ({value})" if name else f"campaign {value or '(none)'}")
            else:
                parts.append(f"{dimension.removesuffix('_id')} {value or '(none)'}")
        return ", ".join(parts) or "all campaigns"

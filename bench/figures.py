"""The arithmetic of measurements. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Latencies:
    """How many there were, and quantiles of them in ms: each is the smallest one that so large a share of all does not exceed."""

    count: int
    p50: float
    p99: float
    p999: float
    highest: float

    @classmethod
    def of(cls, seconds: Floats) -> Latencies:
        """Of at least one."""
        p50, p99, p999 = (float(q) * 1_000 for q in np.quantile(seconds, (0.5, 0.99, 0.999), method="inverted_cdf"))
        return cls(len(seconds), p50, p99, p999, float(seconds.max()) * 1_000)

    def content(self) -> dict[str, Any]:
        """For a report, in ms with one decimal."""
        return {name: round(value, 1) for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Buckets:
    """A Prometheus histogram: how many values were at most each bound; the last bound is infinite."""

    bounds: tuple[float, ...]
    cumulative: tuple[float, ...]

    @property
    def count(self) -> int:
        return int(self.cumulative[-1])

    def since(self, before: Buckets) -> Buckets:
        """What was counted since `before`."""
        return Buckets(self.bounds, tuple(now - then for now, then in zip(self.cumulative, before.cumulative, strict=True)))

    def number_of(self, value: float) -> int:
        """In which bucket a value is."""
        return int(np.searchsorted(self.bounds, value))

    def quantile(self, share: float) -> int:
        """In which bucket the smallest value is that so large a share of all does not exceed."""
        return int(np.searchsorted(self.cumulative, share * self.cumulative[-1]))

    def named(self, number: int, *, unit: float = 1_000) -> str:
        """A bucket as people read it, in ms or in another unit of which a second has so many: `200..300`."""
        low, high = (0.0 if number == 0 else self.bounds[number - 1]), self.bounds[number]
        return f"{low * unit:g}..{high * unit:g}" if np.isfinite(high) else f"above {low * unit:g}"


def seen_after(first_offsets: Ints, counts: Ints, sent_at: Floats, polled_at: Floats, applied: Ints) -> Floats:
    """Seconds from sending to being seen applied, of every record of one partition.

    Batches of `counts` records each were sent at `sent_at`, and got consecutive offsets from `first_offsets` on. At `polled_at` (ascending)
    the newest applied offset was `applied` (ascending). Raises ValueError if not all were seen.
    """
    if len(first_offsets) and (not len(applied) or applied[-1] < (first_offsets + counts).max() - 1):
        raise ValueError("not all records were seen applied")
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    offsets = np.repeat(first_offsets, counts) + np.arange(counts.sum()) - starts
    seen: Floats = polled_at[np.searchsorted(applied, offsets)] - np.repeat(sent_at, counts)
    return seen


def rate_between(polled_at: Floats, totals: Ints, low: int, high: int) -> float:
    """Records per second from the first moment with `low` or more of them to the first with `high` or more."""
    begin, end = np.searchsorted(totals, (low, high))
    return float((totals[end] - totals[begin]) / (polled_at[end] - polled_at[begin]))


def rate_within(polled_at: Floats, totals: Ints, began: float, ended: float) -> float:
    """Records per second from one moment to another, as last seen at each of them (0 before the first look)."""
    low, high = (int(totals[at - 1]) if (at := int(np.searchsorted(polled_at, moment, side="right"))) else 0 for moment in (began, ended))
    return (high - low) / (ended - began)


def slope_per_hour(seconds: Sequence[float], values: Sequence[float]) -> float:
    """How much `values` rise in an hour, by least squares."""
    return float(np.polyfit(np.array(seconds) - seconds[0], values, 1)[0]) * 3_600


def high_of_each(period: float, seconds: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Middle of each whole period, counted back from the end, and the value that a tenth of its values exceeds.

    What is left over at the beginning does not count.
    """
    middles, high = [], []
    end = seconds[-1]
    while end - period >= seconds[0]:
        own = [value for at, value in zip(seconds, values, strict=True) if end - period < at <= end]
        middles.append(end - period / 2)
        high.append(float(np.quantile(own, 0.9, method="inverted_cdf")))
        end -= period
    return middles[::-1], high[::-1]


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The course of `values` as a line of bars: means of `width` pieces, the lowest bar for the lowest."""
    pieces = [float(piece.mean()) for piece in np.array_split(np.array(values, np.float64), min(width, len(values)))]
    low, high = min(pieces), max(pieces)
    return "".join(_BARS[round((piece - low) / (high - low) * (len(_BARS) - 1)) if high > low else 0] for piece in pieces)

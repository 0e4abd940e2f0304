"""A Prometheus histogram that takes thousands of values at once; the client's own takes one at a time, 1 us each and more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Seen:
    #: Values per bucket, each counted in one bucket only; the last one has what is above all bounds.
    counts: NDArray[np.int64]
    total: float = 0.0


class WeightedHistogram(Collector):
    """One metric with some labels. `bounds` are the buckets' upper bounds, ascending, included in their bucket as Prometheus has it."""

    def __init__(self, name: str, description: str, labels: Sequence[str], bounds: Sequence[float], registry: CollectorRegistry) -> None:
        if not len(bounds) or list(bounds) != sorted(set(bounds)):
            raise ValueError(f"{name}: the bounds must be at least one, ascending, each once")
        self._name = name
        self._description = description
        self._labels = tuple(labels)
        self._bounds = np.array(bounds, np.float64)
        self._les = [*map(floatToGoString, bounds), "+Inf"]
        self._seen: dict[tuple[str, ...], _Seen] = {}
        registry.register(self)

    def observe(self, labels: tuple[str, ...], values: Floats) -> None:
        """Count every element of `values` under these values of the labels."""
        seen = self._seen.get(labels)
        if seen is None:
            seen = self._seen[labels] = _Seen(np.zeros(len(self._les), np.int64))
        seen.counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._les))
        seen.total += float(values.sum())

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Prometheus' hook: what was counted so far."""
        family = HistogramMetricFamily(self._name, self._description, labels=self._labels)
        for labels, seen in list(self._seen.items()):
            family.add_metric(labels, list(zip(self._les, np.cumsum(seen.counts).tolist(), strict=True)), seen.total)
        yield family

"""The KPIs themselves in Prometheus: few rows of few cubes, so that their number stays bounded whatever producers send.

Tables of thousands of campaigns are served by `/api/kpis`; here are the lines that a dashboard draws over days. Every worker shows the same
numbers, since they are read from the tables, so ask for the `max` over workers.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from streams.api.times import read_length
from streams.config import Settings
from streams.kpis.formulas import KPIS, evaluate_rows, places_of
from streams.tables.reader import TableReader
from streams.tables.windows import RowKey, TableError, Window

log = logging.getLogger(__name__)

#: What is shown of each row.
SHOWN = ("spend", "net_revenue", "impressions", "clicks", "conversions", "ctr", "cvr", "cpc", "cpa", "roas")
#: Seconds between two looks at the tables, at least; and reading takes at most this share of a worker's time.
_EVERY, _SHARE = 10.0, 1 / 20


@dataclass(frozen=True, slots=True)
class _Sample:
    cube: str
    row: str
    window: str
    values: Mapping[str, float]


class KpiMetrics(Collector):
    """`campaignwatch_kpi`, kept up to date by `run`; a scrape only writes down what the last look found."""

    def __init__(self, settings: Settings, reader: TableReader, registry: CollectorRegistry) -> None:
        self._cubes = settings.streams.metric_cubes
        self._limit = settings.streams.metric_rows
        self._reader = reader
        self._samples: dict[tuple[str, str], list[_Sample]] = {}
        self._left_out = Gauge("campaignwatch_kpi_rows_left_out", "Rows beyond streams.metric_rows", ("cube", "window"), registry=registry)
        self._failed = Counter("campaignwatch_kpi_refresh_failures", "Looks at the tables that failed", registry=registry)
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Prometheus' hook: the samples of the last look."""
        family = GaugeMetricFamily(
            "campaignwatch_kpi",
            "A measure or KPI of a cube's row over the newest complete window; money in units of the reporting currency",
            labels=("cube", "row", "measure", "window"),
        )
        for samples in list(self._samples.values()):
            for sample in samples:
                for measure, value in sample.values.items():
                    family.add_metric((sample.cube, sample.row, measure, sample.window), value)
        yield family

    async def run(self) -> None:
        """Look at the tables again and again until cancelled. Redis being away leaves the last numbers out, not the worker down."""
        while True:
            began = time.monotonic()
            try:
                await self.refresh()
            except (RedisError, OSError, TableError) as error:
                self._failed.inc()
                self._samples.clear()
                log.warning("the KPIs of /metrics cannot be read from the tables: %s", error)
            await asyncio.sleep(max(_EVERY, (time.monotonic() - began) / _SHARE))

    async def refresh(self) -> None:
        """Look at the tables once."""
        watermark = await self._reader.watermark()
        if watermark is None:
            self._samples.clear()
            return
        books = await self._reader.bookkeeping()
        for cube, windows in self._cubes.items():
            for name in windows:
                length = read_length(name)
                alignment = self._reader.alignment(watermark - length, books)
                end = watermark // alignment * alignment
                found = await self._reader.window(cube, end - length, end, estimates=False, books=books)
                self._samples[cube, name] = _samples(found, name, self._limit)
                self._left_out.labels(cube, name).set(max(0, len(found.rows) - self._limit))


def _samples(window: Window, name: str, limit: int) -> list[_Sample]:
    """The rows that spend most, then those with most impressions."""
    spend, impressions = window.measures["spend"], window.measures["impressions"]
    chosen = np.lexsort((-impressions, -spend))[:limit]
    kpis = evaluate_rows(window, SHOWN)
    samples = []
    for i in chosen.tolist():
        values = {m: int(window.measures[m][i]) / 10 ** places_of(m) for m in SHOWN if m not in KPIS}
        values |= {kpi: float(column[i]) for kpi, column in kpis.items() if not math.isnan(column[i])}
        samples.append(_Sample(window.cube, row_label(window.rows[i]), name, values))
    return samples


def row_label(key: RowKey) -> str:
    """A row's key as a label: its values with a slash between them, `(none)` for an absent one, `total` for the single row."""
    return "/".join("(none)" if value is None else value for value in key) or "total"

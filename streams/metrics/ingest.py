"""What a streams worker says about its own work. Labels are topics, partitions and stable codes only: bounded by configuration."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streams.metrics.weighted import WeightedHistogram

if TYPE_CHECKING:
    from streams.ingest.continuity import Break
    from streams.ingest.flush import Flush, PartitionFlusher
    from streams.tables.meta import Meta

_PARTITION = ("topic", "partition")
#: Seconds: close together around the time that events are gathered for, far apart where a backlog is.
VISIBLE_BUCKETS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 86_400)


class IngestMetrics:
    """All ingest metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter("campaignwatch_events", "Records read, by what became of them", ("topic", "outcome"), registry=registry)
        self.without_key = Counter("campaignwatch_events_without_key", "Records that came without a key", ("topic",), registry=registry)
        self.quarantined = Counter("campaignwatch_quarantined", "Records refused, by reason", ("topic", "reason"), registry=registry)
        self.folded = Counter(
            "campaignwatch_rows_folded", "Row keys counted in the row of absent dimensions for want of room", ("cube",), registry=registry
        )
        self.retries = Counter("campaignwatch_flush_retries", "Calls to Redis or Kafka that had to be repeated", registry=registry)
        self.fenced = Counter("campaignwatch_fenced", "Flushes refused because Redis held another owner or offset", registry=registry)
        self.failed = Counter("campaignwatch_flush_failures", "Flushes that failed for a reason in the program itself", registry=registry)
        self.flush_seconds = Histogram(
            "campaignwatch_flush_seconds",
            "Time from taking a batch to its being applied",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.flush_events = Histogram(
            "campaignwatch_flush_events", "Records per flush", buckets=(1, 10, 100, 1_000, 5_000, 10_000, 20_000, 40_000), registry=registry
        )
        self.visible_seconds = WeightedHistogram(
            "campaignwatch_visible_seconds",
            "From a record's own time to its being applied in Redis, where everybody sees it; every record counts, those of a backlog too",
            ("topic",),
            VISIBLE_BUCKETS,
            registry,
        )
        self.lag = Gauge("campaignwatch_lag_records", "Records behind the end of the partition", _PARTITION, registry=registry)
        self.watermark = Gauge(
            "campaignwatch_watermark_seconds", "Event time up to which the partition is complete, epoch s", _PARTITION, registry=registry
        )
        self.pending_events = Gauge("campaignwatch_pending_events", "Records taken but not applied yet", _PARTITION, registry=registry)
        self.pending_bytes = Gauge(
            "campaignwatch_pending_bytes", "Bytes of keys and values of these records", _PARTITION, registry=registry
        )
        self.dedupe_ids = Gauge("campaignwatch_dedupe_ids", "Event ids held to find duplicates", _PARTITION, registry=registry)
        self.dedupe_seconds = Gauge(
            "campaignwatch_dedupe_seconds",
            "For how long repeats of an event id are found: streams.dedupe_horizon, unless ids had to be forgotten",
            _PARTITION,
            registry=registry,
        )
        self.breaks = Counter(
            "campaignwatch_breaks",
            "Times that log and tables did not continue each other, by kind: see docs/operations.md",
            ("topic", "kind"),
            registry=registry,
        )
        self.break_records = Counter(
            "campaignwatch_break_records", "Records that such a break was about", ("topic", "kind"), registry=registry
        )
        self.doubts = Counter(
            "campaignwatch_partition_doubts", "Times that a partition was claimed again to see whether its log goes on", registry=registry
        )
        self.open_cells = Gauge("campaignwatch_open_cells", "Table cells of 8 bytes held in memory", _PARTITION, registry=registry)

    def of_partition(self, topic: str, partition: int) -> PartitionMetrics:
        """The view of one topic-partition's owner."""
        return PartitionMetrics(self, topic, partition)


class PartitionMetrics:
    """Ingest metrics of one topic-partition."""

    def __init__(self, metrics: IngestMetrics, topic: str, partition: int) -> None:
        self._all = metrics
        self._topic = topic
        self._labels = (topic, str(partition))
        self._folded: dict[str, int] = {}

    def pending(self, events: int, nbytes: int) -> None:
        """Records that wait to be applied, and the bytes of their keys and values."""
        self._all.pending_events.labels(*self._labels).set(events)
        self._all.pending_bytes.labels(*self._labels).set(nbytes)

    @contextlib.contextmanager
    def timed(self, events: int) -> Iterator[None]:
        """Around one flush of `events` records."""
        began = time.perf_counter()
        yield
        self._all.flush_seconds.observe(time.perf_counter() - began)
        self._all.flush_events.observe(events)

    def flushed(self, before: Meta, flush: Flush, flusher: PartitionFlusher) -> None:
        """Count what a flush came to."""
        after = flush.meta
        for outcome in ("applied", "duplicate", "too_late", "quarantined"):
            self._all.events.labels(self._topic, outcome).inc(getattr(after, outcome) - getattr(before, outcome))
        if flush.without_key:
            self._all.without_key.labels(self._topic).inc(flush.without_key)
        for _, refusal in flush.refusals:
            self._all.quarantined.labels(self._topic, refusal.reason.value).inc()
        for cube, folded in flusher.tables.folded.items():
            self._all.folded.labels(cube).inc(folded - self._folded.get(cube, 0))
        self._folded = dict(flusher.tables.folded)
        self._all.dedupe_ids.labels(*self._labels).set(len(flusher.seen))
        self._all.dedupe_seconds.labels(*self._labels).set(flusher.seen.known_for(after.record_time) / 1000)
        self._all.open_cells.labels(*self._labels).set(flusher.tables.cells)

    def visible(self, times: NDArray[np.int64], at: float) -> None:
        """Count how old records of these `times` (epoch ms) were when they were applied, `at` (epoch s).

        One from the future, of a fast clock, counts as 0 s old.
        """
        # A record without a time of its own, as of very old producers, says nothing.
        self._all.visible_seconds.observe((self._topic,), np.maximum(at - times[times >= 0] / 1000, 0.0))

    def retried(self) -> None:
        """A call was repeated."""
        self._all.retries.inc()

    def fenced(self) -> None:
        """A flush was refused."""
        self._all.fenced.inc()

    def failed(self) -> None:
        """A flush raised."""
        self._all.failed.inc()

    def doubted(self) -> None:
        """A partition is looked at again."""
        self._all.doubts.inc()

    def broke(self, kind: Break, records: int) -> None:
        """Log and tables did not continue each other."""
        self._all.breaks.labels(self._topic, kind.value).inc()
        self._all.break_records.labels(self._topic, kind.value).inc(records)

    def gone(self) -> None:
        """The partition is no longer owned here: its gauges would only mislead."""
        every = self._all
        for gauge in (
            every.lag,
            every.watermark,
            every.pending_events,
            every.pending_bytes,
            every.dedupe_ids,
            every.dedupe_seconds,
            every.open_cells,
        ):
            with contextlib.suppress(KeyError):
                gauge.remove(*self._labels)

"""Spend reports: which of them count, what they replace, and how an amount is spread over its minutes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgpack
import numpy as np
import xxhash
from numpy.typing import NDArray

from streams.config import Money
from streams.ingest.aggregate import Facts
from streams.ingest.coded import encode
from streams.ingest.columns import Columns
from streams.ingest.facts import from_reports
from streams.panes.ladder import Level

Ints = NDArray[np.int64]
MINUTE_MS = 60_000
MINUTES_A_DAY = 1_440
#: Panes that amounts are spread over at once, so that many long reports do not fill the memory.
_FACTS_AT_ONCE = 500_000


@dataclass(frozen=True, slots=True)
class Report:
    """One report. The period is [start, end) in epoch minutes, the amount in micros of the reporting currency."""

    start: int
    end: int
    revision: int
    micros: int
    dimensions: Mapping[str, str | None]

    @property
    def identity(self) -> bytes:
        """Digest of campaign, platform and period."""
        parts = (self.dimensions["campaign_id"], self.dimensions["platform"], self.start, self.end)
        return xxhash.xxh3_128_digest(msgpack.packb(parts, unicode_errors="surrogatepass"))

    @property
    def last_day(self) -> int:
        """UTC day, from the epoch, of the last minute."""
        return (self.end - 1) // MINUTES_A_DAY

    def pack(self) -> bytes:
        """Bytes for the table of reports."""
        packed: bytes = msgpack.packb((self.start, self.end, self.revision, self.micros, dict(self.dimensions)))
        return packed

    @classmethod
    def unpack(cls, stored: bytes) -> Report:
        """The report that `pack` made bytes of."""
        return cls(*msgpack.unpackb(stored))


def reports_of(columns: Columns) -> list[Report]:
    """The reports of a decoded batch of the spend topic, in offset order."""
    names = list(columns.dimensions)
    rows = zip(*(column.strings() for column in columns.dimensions.values()), strict=True)
    numbers = zip(
        columns.period_start.tolist(), columns.period_end.tolist(), columns.revision.tolist(), columns.micros.tolist(), strict=True
    )
    return [Report(*n, dict(zip(names, row, strict=True))) for n, row in zip(numbers, rows, strict=True)]


@dataclass(slots=True)
class Ruling:
    """What became of a batch of reports."""

    #: Per report: it counts (else it is a duplicate).
    counts: NDArray[np.bool_]
    #: Reports whose amounts are added and taken away again, with the sign.
    changes: list[tuple[Report, int]]
    #: Newest report by identity, to be stored.
    newest: dict[bytes, Report]


def rule(reports: Sequence[Report], stored: Mapping[bytes, Report]) -> Ruling:
    """A higher revision replaces, an equal or lower one is a duplicate, in whatever order they come."""
    counts = np.zeros(len(reports), np.bool_)
    newest: dict[bytes, Report] = {}
    for i, report in enumerate(reports):
        identity = report.identity
        before = newest.get(identity) or stored.get(identity)
        if before is None or report.revision > before.revision:
            counts[i] = True
            newest[identity] = report
    changes = [(report, 1) for report in newest.values()]
    changes += [(stored[identity], -1) for identity in newest if identity in stored]
    return Ruling(counts, changes, newest)


def spread(micros: int, start: int, end: int, bounds: Ints | None = None) -> Ints:
    """Micros of a report over [start, end), epoch minutes, between consecutive `bounds` (epoch minutes; None: minute by minute).

    Minute i of n gets floor(total (i+1) / n) - floor(total i / n), so that any parts sum to their whole exactly.
    """
    n = end - start
    at = np.arange(n + 1, dtype=np.int64) if bounds is None else np.clip(bounds - start, 0, n)
    whole, rest = divmod(micros, n)
    return np.diff(whole * at + rest * at // n)


def facts_of_reports(changes: Sequence[tuple[Report, int]], money: Money, level: Level, record_time: int) -> Iterator[Facts]:
    """What the changes add to the panes of one level that are still kept at `record_time`, in parts of bounded size.

    A pane gets its minutes' micros at once, so that a report of a month costs as many facts as it has panes, not minutes.
    """
    part: list[tuple[Report, int, Ints, Ints]] = []
    size = 0
    for report, sign in changes:
        times, bounds = _panes_of(report, level, record_time)
        if not len(times):
            continue
        part.append((report, sign, times, bounds))
        size += len(times)
        if size >= _FACTS_AT_ONCE:
            yield _facts(part, money)
            part, size = [], 0
    if part:
        yield _facts(part, money)


def _panes_of(report: Report, level: Level, record_time: int) -> tuple[Ints, Ints]:
    """Where the report's minutes begin in each kept pane of the level (ms), and the bounds of these parts (epoch minutes)."""
    first_kept = (record_time - level.keep - level.size) // level.size * level.size + level.size
    start = max(report.start, -(-first_kept // MINUTE_MS))
    if level.size <= MINUTE_MS:
        minutes = np.arange(start, report.end + 1, dtype=np.int64)
        return minutes[:-1] * MINUTE_MS, minutes
    first = start * MINUTE_MS // level.size * level.size
    # A minute belongs to the pane in which it begins.
    inner = -(-np.arange(first + level.size, report.end * MINUTE_MS, level.size, dtype=np.int64) // MINUTE_MS)
    bounds = np.concatenate(([start], inner[inner < report.end], [report.end])) if start < report.end else np.empty(0, np.int64)
    return bounds[:-1] * MINUTE_MS, bounds


def _facts(parts: Sequence[tuple[Report, int, Ints, Ints]], money: Money) -> Facts:
    lengths = np.array([len(times) for _, _, times, _ in parts])
    amounts = np.concatenate([sign * spread(report.micros, report.start, report.end, bounds) for report, sign, _, bounds in parts])
    dimensions = {}
    for name in parts[0][0].dimensions:
        coded = encode([report.dimensions[name] for report, *_ in parts])
        coded.codes = np.repeat(coded.codes, lengths)
        dimensions[name] = coded
    spend = np.where(from_reports(dimensions["platform"], money), amounts, 0)
    times = np.concatenate([times for _, _, times, _ in parts])
    # Counted so that a report of nothing is told from no report.
    minutes = np.concatenate([sign * np.diff(bounds) for _, sign, _, bounds in parts])
    return Facts(times, dimensions, {"reported_spend": amounts, "spend": spend, "reported_minutes": minutes})

"""Spend reports from rows: one per campaign, platform and period, which is a report's identity.

Files often carry a row per ad. Sent one by one, such rows would be taken for repeats of the same report, so they are summed first, over
all files of a replay. Of the other fields a report keeps those on which its rows agree.
"""

from __future__ import annotations

import polars as pl

from streams.replay.mapping import Event
from streams.replay.preparing import COUNT, END, FIELD, START, TAG, Prepared
from streams.replay.reading import ITEM, ROW, Fault

AMOUNT, REVISION, CURRENCY = FIELD + "amount", FIELD + "revision", FIELD + "currency"
IDENTITY = (FIELD + "campaign_id", FIELD + "platform", START, END)
_LOW, _HIGH = "\x00low:", "\x00high:"
_SOURCE = "\x00source"


class Reports:
    """Gathers the spend rows of one event of the mapping, batch by batch."""

    def __init__(self, number: int, event: Event) -> None:
        self._number = number
        self._event = event
        self._partial: list[pl.DataFrame] = []

    def add(self, prepared: Prepared, source: int) -> None:
        """Take in the spend rows of a batch of the file number `source`."""
        frame = prepared.frame
        if frame.is_empty():
            return
        others = [name for name in frame.columns if name.startswith(FIELD) and name not in (*IDENTITY, AMOUNT, REVISION)]
        revision = [pl.col(REVISION).max()] if REVISION in frame.columns else []
        first = [pl.lit(source).alias(_SOURCE), pl.col(ROW).first(), pl.col(ITEM).first(), pl.col(TAG).first()]
        lows = [pl.col(name).min().alias(_LOW + name) for name in others]
        highs = [pl.col(name).max().alias(_HIGH + name) for name in others]
        self._partial.append(frame.group_by(IDENTITY, maintain_order=True).agg(pl.col(AMOUNT).sum(), *revision, *first, *lows, *highs))
        if len(self._partial) >= 64:
            self._partial = [self._merged()]

    def result(self) -> tuple[Prepared | None, list[tuple[int, Fault]]]:
        """The reports, with the file and row of the first row of each, and (file number, fault) where the rows' currencies differ."""
        if not self._partial:
            return None, []
        frame = self._merged()
        faults: list[tuple[int, Fault]] = []
        if _LOW + CURRENCY in frame.columns:
            mixed = (pl.col(_LOW + CURRENCY) != pl.col(_HIGH + CURRENCY)).fill_null(False)
            for source, row, low, high in frame.filter(mixed).select(_SOURCE, ROW, _LOW + CURRENCY, _HIGH + CURRENCY).iter_rows():
                faults.append((source, Fault(row, f"currency: rows of the same campaign and period say {low} and {high}; not reported")))
            frame = frame.filter(~mixed)
        others = [name.removeprefix(_LOW) for name in frame.columns if name.startswith(_LOW)]
        agreed = [pl.when(pl.col(_LOW + name) == pl.col(_HIGH + name)).then(pl.col(_LOW + name)).alias(name) for name in others]
        frame = frame.with_columns(*agreed, pl.lit(1, pl.Int64).alias(COUNT))
        frame = frame.drop(*(_LOW + name for name in others), *(_HIGH + name for name in others))
        return Prepared(self._number, self._event, frame), faults

    def _merged(self) -> pl.DataFrame:
        frame = pl.concat(self._partial, how="vertical_relaxed")
        lows = [pl.col(name).min() for name in frame.columns if name.startswith(_LOW)]
        highs = [pl.col(name).max() for name in frame.columns if name.startswith(_HIGH)]
        revision = [pl.col(REVISION).max()] if REVISION in frame.columns else []
        first = [pl.col(name).first() for name in (_SOURCE, ROW, ITEM, TAG)]
        return frame.group_by(IDENTITY, maintain_order=True).agg(pl.col(AMOUNT).sum(), *revision, *first, *lows, *highs)


def source_of(prepared: Prepared) -> pl.Series:
    """File number of each report's first row."""
    return prepared.frame[_SOURCE]

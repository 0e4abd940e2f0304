"""What the tables must hold, kept up to date as the log grows: the slow judge's facts as a data frame, summed when it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from streams.config import DIMENSIONS, Settings, Topic
from tests.reference import Judge, LogRecord, Reference

RowKey = tuple[str | None, ...]
#: Row key -> measure -> amount; nothing that is 0.
Rows = dict[RowKey, dict[str, int]]
#: (start of the step, row key) -> measure -> amount.
Steps = dict[tuple[int, RowKey], dict[str, int]]

_FIXED = ("time", "user", "load_ms", *DIMENSIONS)
_REPORT = {"start": pl.Int64, "n": pl.Int64, "micros": pl.Int64, "counts_as_spend": pl.Boolean}
_MINUTE = 60_000


class Expected:
    """Judges records as they come and answers what a window must show."""

    def __init__(self, settings: Settings) -> None:
        self._judge = Judge(settings, DIMENSIONS)
        self._facts = pl.DataFrame(schema={"time": pl.Int64, "load_ms": pl.Int64, **dict.fromkeys(("user", *DIMENSIONS), pl.String)})
        self._reports = self._report_frame()
        #: Newest record time of an event topic, epoch ms.
        self.record_time = 0

    @property
    def reference(self) -> Reference:
        """Totals, refusals and the registry; its facts are here."""
        return self._judge.reference

    @property
    def events(self) -> int:
        """Facts that count: applied events, spend reports apart."""
        return self._facts.height

    def take(self, records: Sequence[tuple[Topic, LogRecord]]) -> None:
        """Judge what was added to the log, per topic-partition in offset order."""
        for topic, record in records:
            self._judge.take(topic, record)
            if topic is not Topic.CAMPAIGNS:
                self.record_time = max(self.record_time, record.timestamp)
        facts, self.reference.facts = self.reference.facts, []
        if facts:
            rows = [{"time": f.time, "user": f.user, "load_ms": f.load_ms, **f.dimensions, **f.measures} for f in facts]
            schema: dict[str, Any] = dict(self._facts.schema)
            schema |= {name: pl.Int64 for fact in facts for name in fact.measures}
            self._facts = pl.concat([self._facts, pl.DataFrame(rows, schema=schema)], how="diagonal")
        self._reports = self._report_frame()

    def window(self, dimensions: Sequence[str], start: int, end: int) -> Rows:
        """Row key -> measure -> sum over [start, end), epoch ms."""
        return {key: measures for (_, key), measures in self.steps(dimensions, start, end, end - start).items()}

    def steps(self, dimensions: Sequence[str], start: int, end: int, step: int) -> Steps:
        """The same for each step of `step` ms from `start` on."""
        within = self._facts.filter(pl.col("time").is_between(start, end, closed="left"))
        within = within.with_columns(((pl.col("time") - start) // step * step + start).alias("step"))
        result: Steps = {}
        _add(result, within, dimensions, [name for name in within.columns if name not in (*_FIXED, "step")])
        _add(result, self._report_parts(start, end, step), dimensions, ["reported_spend", "reported_minutes", "spend"])
        return result

    def users(self, dimensions: Sequence[str], start: int, end: int) -> dict[RowKey, int]:
        """Row key -> distinct users over [start, end)."""
        within = self._facts.filter(pl.col("time").is_between(start, end, closed="left") & pl.col("user").is_not_null())
        return {key: amounts["user"] for key, amounts in _grouped(within, dimensions, [pl.col("user").n_unique()]).items()}

    def sketched(self, start: int, end: int) -> dict[str, int]:
        """How many values the quantile sketches have taken in over [start, end): of `dwell` and of `load`."""
        within = self._facts.filter(pl.col("time").is_between(start, end, closed="left"))
        dwell = int(within["dwell_count"].sum()) if "dwell_count" in within.columns else 0
        return {"dwell": dwell, "load": within["load_ms"].count()}

    def _report_frame(self) -> pl.DataFrame:
        rows = [
            {"start": r.start, "n": r.n, "micros": r.micros, "counts_as_spend": r.counts_as_spend, **r.dimensions}
            for _, r in self._judge.reports.values()
        ]
        return pl.DataFrame(rows, schema={**_REPORT, **dict.fromkeys(DIMENSIONS, pl.String)})

    def _report_parts(self, start: int, end: int, step: int) -> pl.DataFrame:
        """A row per report and step that it has minutes in. Minute i of n has floor(total (i+1) / n) - floor(total i / n)."""
        begin, until = pl.col("start") * _MINUTE, (pl.col("start") + pl.col("n")) * _MINUTE
        parts = self._reports.filter((begin < end) & (until > start)).with_columns(
            ((pl.max_horizontal(begin, pl.lit(start)) - start) // step).alias("first"),
            ((pl.min_horizontal(until, pl.lit(end)) - start - 1) // step).alias("last"),
        )
        parts = parts.with_columns(pl.int_ranges("first", pl.col("last") + 1).alias("step")).explode("step")
        parts = parts.with_columns(pl.col("step") * step + start)
        low, high = pl.col("step"), pl.min_horizontal(pl.col("step") + step, pl.lit(end))
        minutes = [(-(-at // _MINUTE) - pl.col("start")).clip(0, pl.col("n")).alias(name) for at, name in ((low, "a"), (high, "b"))]
        parts = parts.with_columns(minutes)
        whole, rest = pl.col("micros") // pl.col("n"), pl.col("micros") % pl.col("n")

        def until_minute(name: str) -> pl.Expr:
            return whole * pl.col(name) + rest * pl.col(name) // pl.col("n")

        amount = until_minute("b") - until_minute("a")
        return parts.with_columns(
            amount.alias("reported_spend"),
            (pl.col("b") - pl.col("a")).alias("reported_minutes"),
            pl.when("counts_as_spend").then(amount).otherwise(0).alias("spend"),
        )


def _add(result: Steps, frame: pl.DataFrame, dimensions: Sequence[str], measures: Sequence[str]) -> None:
    for (step, *key), amounts in _grouped(frame, ("step", *dimensions), [pl.col(m).sum() for m in measures]).items():
        found = {name: amount for name, amount in amounts.items() if amount}
        if found:
            row = result.setdefault((int(step or 0), tuple(key)), {})
            for name, amount in found.items():
                row[name] = row.get(name, 0) + amount


def _grouped(frame: pl.DataFrame, by: Sequence[str], sums: Sequence[pl.Expr]) -> dict[tuple[Any, ...], dict[str, int]]:
    if not by:
        return {(): frame.select(sums).row(0, named=True)} if frame.height else {}
    grouped = frame.group_by(by).agg(sums)
    keys, names = len(by), grouped.columns[len(by) :]
    return {row[:keys]: dict(zip(names, row[keys:], strict=True)) for row in grouped.iter_rows()}

"""The contract computed the slow way: Python loops over the log, no columns, no panes, no Redis.

Used to say what the tables must hold. It shares with the product only the arbiter that says whether a record is valid, which has tests of
its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from streams.config import Settings, SpendSource, Topic
from streams.events.models import Campaign, Click, Conversion, Engagement, Spend
from streams.events.money import Exchange
from streams.events.parsing import Deletion, parse, registered, reporting_micros
from streams.events.refusal import Refusal

FUTURE_MS = 300_000


@dataclass(frozen=True)
class LogRecord:
    """One record of a log, in the shape of a fetched one."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass
class Totals:
    """Where the records of one topic-partition went."""

    read: int = 0
    applied: int = 0
    duplicate: int = 0
    too_late: int = 0
    quarantined: int = 0


@dataclass
class Fact:
    """One amount of one measure at one time."""

    time: int
    dimensions: dict[str, str | None]
    measures: dict[str, int]
    user: str | None = None
    load_ms: int | None = None


@dataclass
class Report:
    """The newest revision of a spend report: micros over n minutes from `start` (epoch minutes)."""

    start: int
    n: int
    micros: int
    counts_as_spend: bool
    dimensions: dict[str, str | None]

    def within(self, start: int, end: int) -> dict[str, int]:
        """What its minutes in [start, end), epoch ms, sum to: minute i has floor(total (i+1) / n) - floor(total i / n)."""
        first = min(max(-(-start // 60_000) - self.start, 0), self.n)
        last = min(max(-(-end // 60_000) - self.start, 0), self.n)
        amount = self.micros * last // self.n - self.micros * first // self.n
        counted = {"reported_spend": amount, "reported_minutes": last - first}
        return counted | ({"spend": amount} if self.counts_as_spend else {})


@dataclass
class Reference:
    """The whole log, judged."""

    facts: list[Fact] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    totals: dict[tuple[str, int], Totals] = field(default_factory=lambda: defaultdict(Totals))
    #: What belongs in quarantine, in the order in which it was judged.
    refused: list[LogRecord] = field(default_factory=list)
    #: campaign_id -> campaign as `/api/campaigns` shows it.
    registry: dict[str, dict[str, Any]] = field(default_factory=dict)

    def window(self, dimensions: Sequence[str], start: int, end: int) -> dict[tuple[str | None, ...], dict[str, int]]:
        """Row key -> measure -> sum over [start, end), zeros left out."""
        rows: dict[tuple[str | None, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for fact in self.facts:
            if start <= fact.time < end:
                row = rows[tuple(fact.dimensions[d] for d in dimensions)]
                for measure, amount in fact.measures.items():
                    row[measure] += amount
        for report in self.reports:
            row = rows[tuple(report.dimensions[d] for d in dimensions)]
            for measure, amount in report.within(start, end).items():
                row[measure] += amount
        cleaned = {key: {m: v for m, v in row.items() if v} for key, row in rows.items()}
        return {key: row for key, row in cleaned.items() if row}

    def users(self, dimensions: Sequence[str], start: int, end: int) -> dict[tuple[str | None, ...], int]:
        """Row key -> distinct users over [start, end)."""
        seen: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
        for fact in self.facts:
            if start <= fact.time < end and fact.user is not None:
                seen[tuple(fact.dimensions[d] for d in dimensions)].add(fact.user)
        return {key: len(users) for key, users in seen.items()}


class Judge:
    """Judges a log record by record, those of one topic-partition in offset order; `reference` is what came out so far."""

    def __init__(self, settings: Settings, dimensions: Sequence[str]) -> None:
        self.reference = Reference()
        #: Newest revision of each spend report, by its identity.
        self.reports: dict[tuple[Any, ...], tuple[int, Report]] = {}
        self._settings = settings
        self._dimensions = dimensions
        self._retention = settings.streams.ladder[-1].keep * 1000
        self._horizon = int(settings.streams.dedupe_horizon * 1000)
        self._applied_at: dict[tuple[str, int, str], int] = {}

    def take(self, topic: Topic, record: LogRecord) -> None:
        """Judge the next record."""
        result = self.reference
        totals = result.totals[record.topic, record.partition]
        totals.read += 1
        try:
            event = parse(topic, record.value, record.key, self._settings.money)
        except Refusal:
            self._refuse(record, totals)
            return
        if topic is Topic.CAMPAIGNS:
            totals.applied += 1
            if isinstance(event, Campaign):
                result.registry[event.campaign_id] = registered(event)
            elif isinstance(event, Deletion):
                result.registry.pop(event.campaign_id, None)
            return
        assert isinstance(event, Click | Conversion | Engagement | Spend)
        occurred = milliseconds(event.occurred_at)
        if occurred > record.timestamp + FUTURE_MS:
            self._refuse(record, totals)
            return
        age_of = milliseconds(event.period_end) if isinstance(event, Spend) else occurred
        if record.timestamp - age_of > self._retention:
            totals.too_late += 1
            return
        if isinstance(event, Spend):
            identity = (event.campaign_id, event.platform, event.period_start, event.period_end)
            if identity in self.reports and event.revision <= self.reports[identity][0]:
                totals.duplicate += 1
                return
            self.reports[identity] = (event.revision, _report(event, self._settings, self._dimensions))
            totals.applied += 1
            return
        known = self._applied_at.get((record.topic, record.partition, event.event_id))
        if known is not None and record.timestamp - known <= self._horizon:
            totals.duplicate += 1
            return
        self._applied_at[record.topic, record.partition, event.event_id] = record.timestamp
        totals.applied += 1
        result.facts.append(_fact(event, occurred, self._settings, self._dimensions))

    def _refuse(self, record: LogRecord, totals: Totals) -> None:
        totals.quarantined += 1
        self.reference.refused.append(record)


def judge(log: Iterable[tuple[Topic, LogRecord]], settings: Settings, dimensions: Sequence[str]) -> Reference:
    """Compute what the tables must hold after `log`, whose records of one topic-partition are in offset order."""
    judging = Judge(settings, dimensions)
    for topic, record in log:
        judging.take(topic, record)
    judging.reference.reports = [report for _, report in judging.reports.values()]
    return judging.reference


def milliseconds(time: datetime) -> int:
    """Epoch ms, rounded down, of a model's time."""
    delta = time - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def _from_reports(event: Any, settings: Settings) -> bool:
    return settings.money.spend_sources.get(event.platform or "", SpendSource.EVENTS) is SpendSource.REPORTS


def _fact(event: Click | Conversion | Engagement, time: int, settings: Settings, dimensions: Sequence[str]) -> Fact:
    micros = reporting_micros(event, Exchange(settings.money))
    measures: dict[str, int] = {}
    if isinstance(event, Conversion):
        measures[f"conversions_{event.kind}"] = 1
        if event.kind == "refund":
            measures |= {"refunds": micros, "net_revenue": -micros}
        else:
            measures |= {"conversions": 1, "revenue": micros, "net_revenue": micros}
            if event.customer_type == "new":
                measures["conversions_new"] = 1
    else:
        measures["event_cost"] = micros
        if not _from_reports(event, settings):
            measures["spend"] = micros
        if isinstance(event, Click):
            measures["clicks"] = 1
        else:
            measures[f"engagements_{event.kind}"] = 1
            if event.kind == "impression":
                measures["impressions"] = 1
            if event.kind in {"view", "like", "share", "comment", "save", "follow", "rating"}:
                measures["engagements"] = 1
            if event.dwell_ms is not None:
                measures |= {"dwell_ms_sum": event.dwell_ms, "dwell_count": 1}
            if event.rating is not None:
                measures |= {"rating_sum": event.rating, "rating_count": 1}
    return Fact(
        time, {d: getattr(event, d) for d in dimensions}, measures, event.user_id, event.load_ms if isinstance(event, Engagement) else None
    )


def _report(event: Spend, settings: Settings, dimensions: Sequence[str]) -> Report:
    start, end = milliseconds(event.period_start) // 60_000, milliseconds(event.period_end) // 60_000
    micros = reporting_micros(event, Exchange(settings.money))
    return Report(start, end - start, micros, _from_reports(event, settings), {d: getattr(event, d) for d in dimensions})

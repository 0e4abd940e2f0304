"""Metrics of the alerts process. Labels are rules, severities and outcomes only: as many as the configuration names."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from alerts.incidents.change import Change, Severity
from alerts.incidents.incident import Incident
from alerts.rules.model import Rule
from streams.metrics.exposition import exposition

_TICK_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: How a tick may end. `no_data`: no watermark yet; `behind`: the tables are older than alerts.max_lag; `nothing_new`: judged already.
OUTCOMES = ("judged", "no_data", "behind", "nothing_new", "failed")
#: The parts of a tick: reading tables and registry, judging and letting incidents live, writing what changed.
STAGES = ("read", "judge", "write")


class AlertsMetrics:
    """Everything that the process counts, in a registry of its own."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.leader = Gauge("campaignwatch_alerts_leader", "1 while this replica evaluates the rules", registry=own)
        self.terms = Counter("campaignwatch_alerts_terms", "Times that this replica became the leader", registry=own)
        self.ticks = Counter("campaignwatch_alerts_ticks", "Ticks by how they ended", ["outcome"], registry=own)
        self.tick_seconds = Histogram("campaignwatch_alerts_tick_seconds", "Duration of a tick", buckets=_TICK_BUCKETS, registry=own)
        self.stage_seconds = Histogram(
            "campaignwatch_alerts_tick_stage_seconds", "Duration of a tick's parts", ["stage"], buckets=_TICK_BUCKETS, registry=own
        )
        self.tick_late = Gauge("campaignwatch_alerts_tick_late_seconds", "How late after its due time the newest tick began", registry=own)
        self.lag = Gauge("campaignwatch_alerts_lag_seconds", "How far the judged time is behind the clock", registry=own)
        self.rows = Gauge(
            "campaignwatch_alerts_rows_judged", "Rows with enough history and volume at the newest tick", ["rule"], registry=own
        )
        self.open = Gauge("campaignwatch_alerts_incidents_open", "Open incidents (leader only)", ["rule", "severity"], registry=own)
        self.changes = Counter("campaignwatch_alerts_changes", "Changes of incidents written", ["rule", "change"], registry=own)
        self.fell_back = Counter(
            "campaignwatch_alerts_fell_back",
            "Times that Redis was found to hold older incidents than were written, so that they were loaded and judged again",
            registry=own,
        )
        self.outbox = Gauge("campaignwatch_alerts_outbox_length", "Changes in the outbox, delivered or not", registry=own)
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for outcome in OUTCOMES:
            self.ticks.labels(outcome)
        self._rules = [rule.name for rule in rules]
        self.leads(False)

    def leads(self, yes: bool) -> None:
        """Note who leads; only the leader knows what is open."""
        self.leader.set(1 if yes else 0)
        if yes:
            self.terms.inc()
        self.show_open(())

    def show_open(self, incidents: Iterable[Incident]) -> None:
        """Set the open incidents by rule and severity, zeros included."""
        tally = Tally((i.rule, i.newest.severity) for i in incidents if i.is_open)
        for rule in self._rules:
            for severity in Severity:
                self.open.labels(rule, severity.value).set(tally[(rule, severity)])

    def count(self, changes: Iterable[Change]) -> None:
        """Count changes that were written."""
        for change in changes:
            rule = change.rule if change.rule in self._rules else "removed"
            self.changes.labels(rule, change.change.value).inc()

    def render(self, accept: str, /) -> tuple[bytes, str]:
        """The exposition and its content type, OpenMetrics where the Accept header prefers it."""
        return exposition(self.registry, accept)

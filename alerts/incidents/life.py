"""The life of incidents: what judgements do to them. Pure; the store writes what comes out in one go.

nothing --abnormal--> open --abnormal--> open (told again when due)
                        |--calm for `hold`--> resolved --abnormal within `reopen_within`--> open again (reopened)
                        '--older than `max_age`--> resolved: the new level is normal now
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Change, ChangeKind, Severity, WindowOf
from alerts.incidents.grouping import group_of
from alerts.incidents.incident import Incident, Subject, incident_id
from alerts.incidents.inhibition import EVERYTHING, Inhibition
from alerts.rules.model import JudgeName, Rule
from streams.tables.windows import Registered

#: An observation that is this many times as far from expected as what was told last is told at once...
MUCH_WORSE = 3.0
#: ...but not within a minute of the last word.
LEAST_BETWEEN = timedelta(seconds=60)
#: Rows whose incidents opened longer ago than this left normal alone: by then the longest window shows what began together.
TOGETHER = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Moment:
    """When and on what a tick judged."""

    #: The process' clock.
    at: datetime
    #: The judged time on the events' own clock, epoch ms.
    now: int
    #: Applied offset per topic-partition.
    offsets: Mapping[str, int]
    cubes: Mapping[str, Sequence[str]]
    campaigns: Mapping[str, Registered]


@dataclass(slots=True)
class Step:
    """What one tick does: the incidents that changed at all, and the changes that people and machines are told, in order."""

    incidents: dict[Subject, Incident]
    changes: list[Change]


def advance(known: Mapping[Subject, Incident], judged: Sequence[tuple[Rule, Judgement]], moment: Moment) -> Step:
    """Let a tick's judgements act on the newest incident of each subject.

    `judged` must have inhibiting rules before those that they inhibit. Open incidents of rules that are not in it any more, or that
    judge another cube now, are ended. Equal arguments give equal steps.
    """
    life = _Life(known, moment)
    for rule, judgement in judged:
        life.apply(rule, judgement)
    life.end_orphans({rule.name: rule.cube for rule, _ in judged})
    return Step(life.touched, life.changes)


class _Life:
    def __init__(self, known: Mapping[Subject, Incident], moment: Moment) -> None:
        self.known = known
        self.moment = moment
        self.touched: dict[Subject, Incident] = {}
        self.changes: list[Change] = []
        self.inhibition = Inhibition(known.values(), moment.now)
        self.open: dict[str, list[Incident]] = {}
        for incident in known.values():
            if incident.is_open:
                self.open.setdefault(incident.rule, []).append(incident)

    def apply(self, rule: Rule, judgement: Judgement) -> None:
        verdicts = {verdict.row: verdict for verdict in judgement.verdicts}
        everything: Subject = (rule.name, "total", EVERYTHING)
        # Of a rule on the total it is the incident of its one row.
        grouped = self.known.get(everything) if rule.cube != "total" else None
        group_open = grouped is not None and grouped.is_open
        own = [incident for incident in self.open.get(rule.name, ()) if incident.cube == rule.cube]
        alone = {incident.row for incident in own if self.moment.at - incident.newest.opened_at >= TOGETHER}
        group = group_of(rule, judgement, group_open, alone)
        if group is not None:
            self._abnormal(rule, everything, group)
        elif grouped is not None and group_open:
            self._perhaps_end(rule, grouped, calm=True)
        for row, verdict in verdicts.items():
            subject = (rule.name, rule.cube, row)
            incident = self.known.get(subject)
            # A group speaks for its rows; those that already have an incident of their own keep it.
            if (group is None and not group_open) or (incident is not None and incident.is_open):
                self._abnormal(rule, subject, verdict)
        quiet = [incident for incident in own if incident.row not in verdicts]
        if quiet:
            places = {row: place for place, row in enumerate(judgement.rows)}
            for incident in quiet:
                place = places.get(incident.row)
                calm = judgement.absent_is_calm if place is None else bool(judgement.calm[place])
                self._perhaps_end(rule, incident, calm)

    def end_orphans(self, cubes: Mapping[str, str]) -> None:
        """End what no rule judges any more; `cubes` says which cube each rule judges."""
        for rule, incidents in self.open.items():
            for incident in incidents:
                if rule not in cubes:
                    self._end(incident, f"The rule {rule} is not judged any more, so this incident ends.", adopted=False)
                elif incident.cube not in (cubes[rule], "total"):
                    self._end(incident, f"The rule {rule} judges the cube {cubes[rule]} now, so this incident ends.", adopted=False)

    # -- one incident --------------------------------------------------------------------------------------------------------

    def _abnormal(self, rule: Rule, subject: Subject, verdict: Verdict) -> None:
        incident = self.known.get(subject)
        if incident is None or incident.ended_ms is not None:
            if self.inhibition.inhibits(rule, verdict.row):
                return
            ended = incident.ended_ms if incident is not None else None
            if incident is not None and ended is not None and self.moment.now - ended <= rule.reopen_within * 1000:
                self._tell(rule, incident, verdict, ChangeKind.REOPENED)
            else:
                self._open(rule, subject, verdict)
            self.inhibition.add(self.touched[subject])
            return
        if rule.max_age is not None and self.moment.now - incident.since_ms > rule.max_age * 1000:
            lasted = in_words(self.moment.now - incident.since_ms)
            self._end(incident, f"This level has lasted {lasted} and is taken as normal from here on.", adopted=True)
            return
        if not verdict.lasting and verdict.end <= _ms(incident.newest.window.to):
            self._keep(incident, seen_ms=self.moment.now, calm_ms=None)
            return
        worse = verdict.severity is Severity.CRITICAL and incident.newest.severity is not Severity.CRITICAL
        since_told = self.moment.at - incident.told_at
        much_worse = since_told >= LEAST_BETWEEN and _factor(verdict) >= MUCH_WORSE * incident.told_factor
        # When the clock was set back, nobody knows how long ago it was told.
        due = not timedelta(0) <= since_told < timedelta(seconds=rule.update_every)
        if worse or much_worse or due:
            self._tell(rule, incident, verdict, ChangeKind.UPDATED)
        else:
            self._keep(incident, seen_ms=self.moment.now, calm_ms=None)

    def _open(self, rule: Rule, subject: Subject, verdict: Verdict) -> None:
        identity = incident_id(subject, self.moment.at)
        change = self._change(rule, verdict, subject, ChangeKind.OPENED, identity, 1, self.moment.at)
        self.changes.append(change)
        self.touched[subject] = Incident(
            rule=subject[0],
            cube=subject[1],
            row=subject[2],
            direction=verdict.direction.value,
            newest=change,
            # A budget is exhausted now, although the window that shows it is the whole day.
            since_ms=verdict.end if verdict.direction is Direction.EXHAUSTED else verdict.start,
            seen_ms=self.moment.now,
            told_at=self.moment.at,
            told_factor=_factor(verdict),
            peak=verdict.severity,
        )

    def _tell(self, rule: Rule, incident: Incident, verdict: Verdict, kind: ChangeKind) -> None:
        newest = incident.newest
        change = self._change(rule, verdict, incident.subject, kind, newest.incident_id, newest.seq + 1, newest.opened_at)
        self.changes.append(change)
        critical = Severity.CRITICAL in (incident.peak, verdict.severity)
        self.touched[incident.subject] = incident.model_copy(
            update={
                "newest": change,
                "direction": verdict.direction.value,
                "seen_ms": self.moment.now,
                "calm_ms": None,
                "ended_ms": None,
                "adopted": False,
                "since_ms": verdict.start if incident.adopted else incident.since_ms,
                "told_at": self.moment.at,
                "told_factor": _factor(verdict),
                "peak": Severity.CRITICAL if critical else Severity.WARNING,
            }
        )

    def _perhaps_end(self, rule: Rule, incident: Incident, calm: bool) -> None:
        now = self.moment.now
        if not calm:
            if rule.max_age is not None and now - incident.since_ms > rule.max_age * 1000:
                self._end(incident, "There is too little left of it to judge, so this incident ends.", adopted=True)
            elif incident.calm_ms is not None:
                self._keep(incident, calm_ms=None)
            return
        begun = now if incident.calm_ms is None else incident.calm_ms
        if now - begun >= rule.hold * 1000:
            self._end(incident, _over(rule, incident), adopted=False)
        elif incident.calm_ms is None:
            self._keep(incident, calm_ms=begun)

    def _end(self, incident: Incident, reason: str, adopted: bool) -> None:
        newest = incident.newest
        change = newest.model_copy(
            update={
                "change": ChangeKind.RESOLVED,
                "seq": newest.seq + 1,
                "at": self.moment.at,
                "resolved_at": self.moment.at,
                "explanation": f"{reason} When it was told last: {newest.explanation}",
                "offsets": dict(self.moment.offsets),
            }
        )
        self.changes.append(change)
        self.touched[incident.subject] = incident.model_copy(
            update={"newest": change, "ended_ms": self.moment.now, "told_at": self.moment.at, "adopted": adopted}
        )

    def _keep(self, incident: Incident, **update: int | None) -> None:
        self.touched[incident.subject] = incident.model_copy(update=update)

    def _change(
        self, rule: Rule, verdict: Verdict, subject: Subject, kind: ChangeKind, identity: str, seq: int, opened_at: datetime
    ) -> Change:
        _, cube, row = subject
        key = dict(zip(self.moment.cubes[cube], row, strict=True))
        return Change(
            incident_id=identity,
            change=kind,
            seq=seq,
            at=self.moment.at,
            rule=rule.name,
            severity=verdict.severity,
            cube=cube,
            key=key,
            measure=verdict.measure,
            observed=verdict.observed,
            expected=verdict.expected,
            window=WindowOf(start=_moment(verdict.start), to=_moment(verdict.end)),
            money_at_stake=verdict.money_at_stake,
            explanation=verdict.explanation,
            offsets=dict(self.moment.offsets),
            opened_at=opened_at,
            name=_name(key, self.moment.campaigns),
            rule_version=rule.version,
        )


def _name(key: Mapping[str, str | None], campaigns: Mapping[str, Registered]) -> str | None:
    campaign = campaigns.get(key.get("campaign_id") or "")
    name = campaign.get("name") if campaign else None
    return str(name) if name else None


def _factor(verdict: Verdict) -> float:
    """How far from expected, as a number of at least 1 in either direction; one more in both keeps zeros apart from infinity."""
    observed, expected = verdict.observed + 1.0, verdict.expected.mid + 1.0
    return max(observed / expected, expected / observed)


def _over(rule: Rule, incident: Incident) -> str:
    if rule.judge is JudgeName.PIPELINE:
        return f"It did not happen again within {in_words(rule.quiet * 1000)}."
    return f"Back to normal after {in_words(max(0, incident.seen_ms - incident.since_ms))}."


def _ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _moment(ms: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)


def in_words(ms: int) -> str:
    """A length of time for people: `40 s`, `4 min`, `2 h 10 min`."""
    seconds = ms // 1000
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def newest_of(incidents: Sequence[Incident]) -> dict[Subject, Incident]:
    """The newest incident of each subject: the one that a new verdict may update or reopen."""
    newest: dict[Subject, Incident] = {}
    for incident in sorted(incidents, key=lambda i: (i.newest.opened_at, i.newest.incident_id)):
        newest[incident.subject] = incident
    return newest

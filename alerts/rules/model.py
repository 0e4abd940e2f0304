"""The shape of a rule. Every field's description is part of docs/rules.md."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from alerts.incidents.change import Severity
from streams.ingest.continuity import Break

#: Stands for a cube in rules and incidents about the pipeline itself: its rows are topics and kinds of breaks.
PIPELINE = "pipeline"


class JudgeName(StrEnum):
    """The judges that a rule may name."""

    TRAFFIC = "traffic"
    """Counts against the row's own recent level."""
    CONVERSIONS = "conversions"
    """Conversions against their own level and against what the clicks would give."""
    BUDGET_BURN = "budget_burn"
    """Spend against the plan's share for the window."""
    BUDGET_EXHAUSTED = "budget_exhausted"
    """Spend of the day or month against the whole budget."""
    PIPELINE = "pipeline"
    """Breaks between log and tables that the workers noted."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class BaselineParameters(_Part):
    """How normal is learned from complete 1-minute counts."""

    level_minutes: Annotated[int, Field(ge=10, le=120, multiple_of=5)] = 30
    """Newest usable minutes that the level is taken from."""
    gap_minutes: Annotated[int, Field(ge=0, le=30)] = 3
    """Newest minutes that are left out, since a fault may just have begun."""
    min_minutes: Annotated[int, Field(ge=10, le=110)] = 30
    """Usable minutes below which the judge stays silent."""
    min_dispersion: Annotated[float, Field(ge=0, le=1)] = 0.002
    """Least extra variance assumed, as squared coefficient of variation of a minute."""


class Inhibitor(_Part):
    """While an incident of `rule` is open on the same cube and key, and `linger` seconds after, this rule opens nothing there."""

    rule: str
    """Name of the inhibiting rule."""
    direction: str | None = None
    """spike or drop; both when left out."""
    linger: Annotated[int, Field(ge=0, le=86_400)] = 900
    """Seconds after its end during which windows may still contain it."""


class BurnWindow(_Part):
    """One line of the burn table: both windows must burn at `factor` or more."""

    long: Annotated[int, Field(ge=20, le=6_000, multiple_of=10)]
    """Seconds of the long window: it shows that the burn matters."""
    short: Annotated[int, Field(ge=10, le=6_000, multiple_of=10)]
    """Seconds of the short window: it shows that the burn goes on."""
    factor: Annotated[float, Field(gt=1)]
    """Spend divided by the plan's share for the window."""
    severity: Severity
    """Severity when this line is met."""

    @model_validator(mode="after")
    def _short_is_shorter(self) -> BurnWindow:
        if self.short >= self.long:
            raise ValueError(f"short ({self.short}) must be less than long ({self.long})")
        return self


class ExhaustionStep(_Part):
    """Severity once this share of the budget is spent."""

    share: Annotated[float, Field(gt=0)]
    """1.0 is the whole budget."""
    severity: Severity
    """Severity from that share on."""


class BreakKind(_Part):
    """A kind of break that is told."""

    kind: Break
    """Its name, as `campaignwatch doctor` and `campaignwatch_breaks_total` say it."""
    severity: Severity
    """Severity of its incidents."""


Seconds = Annotated[int, Field(ge=10, le=900, multiple_of=10)]


class Rule(_Part):
    """One alert rule. Which fields count depends on the judge; docs/rules.md has the table."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    """Name in messages, metrics and incidents."""
    judge: JudgeName
    """Which judge decides."""
    enabled: bool = True
    """false switches the rule off."""
    cube: str = "campaign"
    """The cube whose rows are judged one by one."""
    severity: Severity = Severity.WARNING
    """Severity of its incidents (traffic and conversions)."""
    measures: tuple[str, ...] = ()
    """Counts that are judged (traffic)."""
    directions: tuple[Annotated[str, Field(pattern="^(spike|drop)$")], ...] = ("spike", "drop")
    """Which deviations count (traffic)."""

    windows: tuple[Seconds, ...] = (20, 30, 40, 60, 120, 300, 900)
    """Seconds; the smallest one that is sure wins (traffic, conversions)."""
    p_value: Annotated[float, Field(gt=0, le=1e-3)] = 1e-9
    """Probability under normal below which a count is abnormal."""
    spike: Annotated[float, Field(gt=1)] = 2.5
    """Least ratio of observed to expected that matters for a spike."""
    drop: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Greatest ratio of observed to expected that matters for a drop."""
    drift: Annotated[float, Field(ge=1, le=3)] = 1.3
    """Factor by which the level may honestly have moved since the baseline, both ways."""
    min_expected: Annotated[float, Field(ge=1)] = 20.0
    """Least expected count of a window; smaller windows are not judged."""
    baseline: BaselineParameters = BaselineParameters()
    """How normal is learned."""

    burn: tuple[BurnWindow, ...] = ()
    """The burn table (budget_burn)."""
    exhaustion: tuple[ExhaustionStep, ...] = ()
    """The steps of spent budget (budget_exhausted)."""
    breaks: tuple[BreakKind, ...] = ()
    """The kinds of breaks that are told (pipeline)."""
    quiet: Annotated[int, Field(ge=60, le=86_400)] = 3_600
    """Seconds for which a noted break is news, and without another after which its incident ends (pipeline)."""
    min_money: Annotated[Decimal, Field(ge=0)] = Decimal(1)
    """Least overspend that matters, in the reporting currency: in the long window (budget_burn), at steps above 1.0 (budget_exhausted)."""
    min_clicks: Annotated[float, Field(ge=0)] = 10.0
    """Least overspend in the long window, counted in clicks at the window's own price: a few dear clicks are no burn."""

    hold: Annotated[int, Field(ge=10, le=3_600)] = 60
    """Seconds of normal after which an incident resolves."""
    update_every: Annotated[int, Field(ge=60, le=86_400)] = 300
    """Seconds between updates of an open incident, unless it gets much worse."""
    reopen_within: Annotated[int, Field(ge=0, le=86_400)] = 600
    """Seconds after its end within which the same trouble reopens the incident instead of opening a new one."""
    max_age: Annotated[int, Field(ge=600)] | None = None
    """Seconds after which a lasting new level is taken as normal and the incident ends; none: never."""
    group_at: Annotated[int, Field(ge=2)] = 10
    """Rows that go wrong at once, and that are at least `group_share` of those judged, become one incident of the cube `total`."""
    group_share: Annotated[float, Field(gt=0, le=1)] = 0.3
    """See group_at."""
    inhibited_by: tuple[Inhibitor, ...] = ()
    """Rules whose incidents explain this one away."""

    @model_validator(mode="after")
    def _complete_for_its_judge(self) -> Rule:
        if self.judge is JudgeName.TRAFFIC and not self.measures:
            raise ValueError("measures: a traffic rule needs at least one")
        if self.judge is JudgeName.BUDGET_BURN and not self.burn:
            raise ValueError("burn: a budget_burn rule needs at least one line of windows")
        if self.judge is JudgeName.BUDGET_EXHAUSTED and not self.exhaustion:
            raise ValueError("exhaustion: a budget_exhausted rule needs at least one step")
        if self.judge is JudgeName.PIPELINE and not self.breaks:
            raise ValueError("breaks: a pipeline rule needs at least one kind")
        if len({line.kind for line in self.breaks}) < len(self.breaks):
            raise ValueError("breaks: name each kind once")
        if (self.judge is JudgeName.PIPELINE) != (self.cube == PIPELINE):
            raise ValueError(f"cube: must be {PIPELINE} for the judge {JudgeName.PIPELINE}, and for no other")
        if self.judge in (JudgeName.BUDGET_BURN, JudgeName.BUDGET_EXHAUSTED) and self.cube != "campaign":
            raise ValueError("cube: budgets belong to campaigns, so the cube must be campaign")
        if not self.windows or sorted(set(self.windows)) != list(self.windows):
            raise ValueError("windows: name at least one, each once, smallest first")
        return self

    @property
    def version(self) -> str:
        """Short fingerprint of everything that the rule says; stored with every change."""
        content: dict[str, Any] = self.model_dump(mode="json")
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def needs(self) -> frozenset[str]:
        """Measures that its judge reads."""
        if self.judge is JudgeName.PIPELINE:
            return frozenset()
        if self.judge is JudgeName.TRAFFIC:
            return frozenset({*self.measures, "spend"})
        if self.judge is JudgeName.CONVERSIONS:
            return frozenset({"clicks", "conversions", "revenue"})
        return frozenset({"spend", "clicks"})

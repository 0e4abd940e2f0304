"""One change of an incident, as it is written to the outbox, to the alerts topic and to `/api/incidents`."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class ChangeKind(StrEnum):
    """What happened to the incident."""

    OPENED = "opened"
    UPDATED = "updated"
    ACKNOWLEDGED = "acknowledged"
    SNOOZED = "snoozed"
    RESOLVED = "resolved"
    REOPENED = "reopened"


class Severity(StrEnum):
    """How soon somebody should look."""

    WARNING = "warning"
    """Today."""
    CRITICAL = "critical"
    """Now: money is being lost."""


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True, use_attribute_docstrings=True)


class Expected(_Shape):
    """What the judge held to be normal, in the unit of the measure or KPI."""

    low: float
    mid: float
    high: float


class WindowOf(_Shape):
    """The window that was judged: [from, to)."""

    start: AwareDatetime = Field(alias="from")
    to: AwareDatetime


class Change(_Shape):
    """An incident as it stands after `change`. `seq` counts the changes of one incident from 1, without gaps."""

    incident_id: str
    change: ChangeKind
    seq: int
    at: AwareDatetime
    rule: str
    severity: Severity
    cube: str
    key: dict[str, str | None]
    measure: str | None = None
    kpi: str | None = None
    observed: float
    expected: Expected
    window: WindowOf
    money_at_stake: Decimal | None = None
    """In the reporting currency; None where the rule cannot tell."""
    explanation: str
    """Two or three plain sentences: what is seen, what was expected and why, what to look at first."""
    offsets: dict[str, int]
    """Applied offset per topic-partition ("marketing.clicks:0") when it was judged."""
    opened_at: AwareDatetime
    resolved_at: datetime | None = None
    name: str | None = None
    """The campaign's name in the registry, where known."""
    rule_version: str = "1"

    def to_json(self) -> str:
        """The JSON of the contract: `from` and `to` in the window, absent values left out, money as a number."""
        content = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        if self.money_at_stake is not None:
            content["money_at_stake"] = float(self.money_at_stake)
        return json.dumps(content, separators=(",", ":"))

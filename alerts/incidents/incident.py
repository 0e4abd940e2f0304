"""An incident as the alerts process keeps it: its newest change, and what its life needs beside that."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict

from alerts.incidents.change import Change, Severity
from streams.tables.windows import RowKey

#: Which trouble an incident is about: rule, cube and the row's key. At most one incident is open for each.
Subject = tuple[str, str, RowKey]


class Incident(BaseModel):
    """What is known about one incident. `*_ms` are on the events' own time (epoch ms), the rest on the process' clock."""

    model_config = ConfigDict(frozen=True)

    rule: str
    cube: str
    row: tuple[str | None, ...]
    direction: str
    newest: Change
    #: Start of the first abnormal window.
    since_ms: int
    #: Judged time of the newest verdict, and of the first calm judgement since; None while abnormal.
    seen_ms: int
    calm_ms: int | None = None
    #: Judged time at which it ended; None while open.
    ended_ms: int | None = None
    #: What people were told last: when, and how far from expected.
    told_at: AwareDatetime
    told_factor: float
    #: Highest severity so far.
    peak: Severity
    #: Ended because the new level has become normal: the baseline may learn it.
    adopted: bool = False

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return (self.rule, self.cube, self.row)

    @property
    def is_open(self) -> bool:
        """Whether the trouble goes on."""
        return self.ended_ms is None


def incident_id(subject: Subject, opened_at: datetime) -> str:
    """The same trouble opening at the same moment has the same id, whichever replica says so."""
    rule, cube, row = subject
    content = json.dumps([rule, cube, list(row), opened_at.isoformat()], separators=(",", ":"))
    return f"i-{hashlib.sha256(content.encode()).hexdigest()[:16]}"

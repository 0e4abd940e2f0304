"""Which troubles explain others away: a spike of traffic burns budget, and nobody needs to be told twice."""

from __future__ import annotations

from collections.abc import Iterable

from alerts.incidents.incident import Incident
from alerts.rules.model import Rule
from streams.tables.windows import RowKey

#: The row of the cube `total`, whose incidents speak for all rows.
EVERYTHING: RowKey = ()


class Inhibition:
    """Answers whether a rule must keep silent about a row at the judged time `now` (epoch ms)."""

    def __init__(self, incidents: Iterable[Incident], now: int) -> None:
        self._now = now
        self._by_row: dict[tuple[str, RowKey], list[Incident]] = {}
        for incident in incidents:
            self.add(incident)

    def add(self, incident: Incident) -> None:
        """Take a newly opened incident into account."""
        self._by_row.setdefault((incident.cube, incident.row), []).append(incident)

    def inhibits(self, rule: Rule, row: RowKey) -> bool:
        """Whether an incident of an inhibiting rule is open for the row, or for everything, or ended less than its `linger` ago."""
        if not rule.inhibited_by:
            return False
        known = [*self._by_row.get((rule.cube, row), ()), *self._by_row.get(("total", EVERYTHING), ())]
        return any(
            incident.rule == inhibitor.rule
            and inhibitor.direction in (None, incident.direction)
            and (incident.ended_ms is None or self._now - incident.ended_ms < inhibitor.linger * 1000)
            for incident in known
            for inhibitor in rule.inhibited_by
        )

"""Which times a baseline must not learn from: those of known incidents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alerts.detect.history import MINUTE, Mask
from alerts.incidents.incident import Incident
from alerts.rules.model import JudgeName, Rule
from streams.tables.windows import RowKey

#: A fault begins before the first window that is sure of it.
BEFORE = 2 * MINUTE
#: The measures that an incident of a judge makes abnormal; None for all. Money that runs away changes no count.
_SPOILED: dict[JudgeName, frozenset[str] | None] = {JudgeName.TRAFFIC: None, JudgeName.CONVERSIONS: frozenset({"conversions"})}


def masks_of(incidents: Iterable[Incident], rules: Mapping[str, Rule], cube: str, now: int) -> dict[RowKey, list[Mask]]:
    """The masks of a cube's rows at the judged time `now`, epoch ms. A group's masks stand under the empty row and are for all rows."""
    masks: dict[RowKey, list[Mask]] = {}
    for incident in incidents:
        rule = rules.get(incident.rule)
        if rule is None or rule.judge not in _SPOILED or incident.adopted or rule.cube != cube:
            continue
        # What came after the first calm judgement is normal again; an open incident spoils everything up to now.
        end = now if incident.is_open else incident.calm_ms or incident.ended_ms or now
        mask = Mask(incident.since_ms - BEFORE, end, _SPOILED[rule.judge])
        masks.setdefault(incident.row, []).append(mask)
    return masks

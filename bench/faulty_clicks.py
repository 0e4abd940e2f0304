"""Campaigns that click as regularly as a clock, but for one fault each. Pure.

They are so regular, and the faults so large, that it is certain which pane shows a fault to the standard rules; what is measured is
how long it then takes to be told, not how good the judges are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

#: Clicks a second of each campaign, one in each step.
RATE = 5
STEP_MS = 1_000 // RATE
PANE_MS = 10_000
#: What a click costs, and how much of a day's budget it takes a campaign that is paced: its plan, exactly.
COST = 0.1
DAILY = COST * RATE * 86_400
#: Budget of a campaign that may spend it as fast as it can, and what its clicks cost: a day of them is below it.
ASAP_BUDGET, ASAP_COST = 10_000, 0.01


class Kind(StrEnum):
    """What goes wrong."""

    DROP = "traffic to zero"
    SPIKE = "traffic spike"
    RUNAWAY = "budget burns"
    EXHAUSTED = "budget exhausted"


#: The rule that is to find it; seconds that it lasts; and after how many seconds of it the last pane ends that it takes to show it.
RULES = {Kind.DROP: "traffic", Kind.SPIKE: "traffic", Kind.RUNAWAY: "budget_burn", Kind.EXHAUSTED: "budget_exhausted"}
LASTS = {Kind.DROP: 40, Kind.SPIKE: 30, Kind.RUNAWAY: 20, Kind.EXHAUSTED: 10}
#: The smallest window of the rule `traffic` is 20 s. Half of it at 8 times the level is 4.5 times as much, which is a spike; half of it
#: at zero is half as much, which is no drop yet. The other two pass their bounds within 10 s.
SHOWN_AFTER = {Kind.DROP: 20, Kind.SPIKE: 10, Kind.RUNAWAY: 10, Kind.EXHAUSTED: 10}
SPIKE_FACTOR, RUNAWAY_FACTOR, EXHAUSTING_COST = 8, 100, 1_000.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One campaign's fault, from `start` (epoch ms, where a pane begins)."""

    campaign: int
    kind: Kind
    start: int

    @property
    def end(self) -> int:
        return self.start + LASTS[self.kind] * 1_000

    @property
    def shown_at(self) -> int:
        """End of the pane that shows it."""
        return self.start + SHOWN_AFTER[self.kind] * 1_000


def plan(count: int, first: int, every: float) -> list[Fault]:
    """`count` faults at as many campaigns, one every `every` seconds from `first` (epoch ms) on, each begun with the pane it falls into."""
    kinds = list(Kind)
    at = (first + int(number * every * 1_000) for number in range(count))
    return [Fault(number, kinds[number % len(kinds)], -(-start // PANE_MS) * PANE_MS) for number, start in enumerate(at)]


def name_of(campaign: int) -> str:
    """Its campaign_id."""
    return f"campaign-{campaign:03d}"


def registry(campaigns: int, today: date) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of the registry's entries. Every fourth campaign is not paced: the one whose budget gets exhausted."""
    for number in range(campaigns):
        asap = _is_asap(number)
        entry: dict[str, Any] = {
            "campaign_id": name_of(number),
            "name": f"Campaign {number}",
            "starts_on": (today - timedelta(days=30)).isoformat(),
            "ends_on": (today + timedelta(days=30)).isoformat(),
            "budget": {"daily": str(ASAP_BUDGET if asap else round(DAILY))},
            "pacing": "asap" if asap else "even",
        }
        yield name_of(number).encode(), json.dumps(entry).encode()


def clicks(campaigns: int, faults: Sequence[Fault], start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of what happens in [start, end), epoch ms, multiples of STEP_MS: a click of each campaign in a step, and the faults."""
    by_campaign = {fault.campaign: fault for fault in faults}
    for step in range(start, end, STEP_MS):
        for campaign in range(campaigns):
            fault = by_campaign.get(campaign)
            kind = fault.kind if fault is not None and fault.start <= step < fault.end else None
            cost = ASAP_COST if _is_asap(campaign) else COST
            if kind is Kind.RUNAWAY:
                cost *= RUNAWAY_FACTOR
            elif kind is Kind.EXHAUSTED:
                cost = EXHAUSTING_COST
            number = 0 if kind is Kind.DROP else SPIKE_FACTOR if kind is Kind.SPIKE else 1
            for repeat in range(number):
                # The campaigns' clicks are spread over the step.
                at = step + campaign * STEP_MS // campaigns
                text = f'{{"event_id":"{campaign}-{step}-{repeat}","occurred_at":{at},"campaign_id":"{name_of(campaign)}"'
                yield name_of(campaign).encode(), f'{text},"channel":"search","cost":{cost:.2f}}}'.encode()


def _is_asap(campaign: int) -> bool:
    return list(Kind)[campaign % len(Kind)] is Kind.EXHAUSTED

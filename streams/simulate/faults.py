"""Faults that the simulation injects and announces: what goes wrong, at which campaign, from when to when."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from streams.simulate.world import World


class FaultKind(StrEnum):
    """What goes wrong."""

    TRAFFIC_SPIKE = "traffic_spike"
    """Bots click eight times as often as people; nothing is bought."""
    TRAFFIC_DROP = "traffic_drop"
    """Next to no impressions, and so nothing after them."""
    BUDGET_RUNAWAY = "budget_runaway"
    """A bid gone wrong: every click costs a multiple."""
    TRACKING_OUTAGE = "tracking_outage"
    """Conversions are no longer reported; people still click and buy."""


SPIKE_FACTOR = 8.0
DROP_FACTOR = 0.01
RUNAWAY_FACTOR = 30.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; active in [start, end), epoch ms."""

    kind: FaultKind
    campaign_id: str
    start: int
    end: int

    def active(self, at: int) -> bool:
        """Whether it is on at `at`, epoch ms."""
        return self.start <= at < self.end


#: Order in which faults are injected; a short run has the first ones only.
FAULT_ORDER = (FaultKind.TRAFFIC_SPIKE, FaultKind.TRAFFIC_DROP, FaultKind.BUDGET_RUNAWAY, FaultKind.TRACKING_OUTAGE)


@dataclass(frozen=True, slots=True)
class Timing:
    """When faults happen in a run, seconds after its start."""

    starts: tuple[int, ...]
    length: int


def timing(duration: float, wanted: int = len(FAULT_ORDER)) -> Timing:
    """Spread up to `wanted` faults over a run of `duration` seconds.

    A quiet lead first, at most two at a time, and time to resolve at the end. Ten minutes: a fault of two minutes every 80 s from the
    first minute on, the last one over three minutes before the end. Shorter runs shrink all of it down to what can still be
    judged and resolved (faults of 80 s, 150 s at the end), then leave faults out.
    """
    lead = int(min(60, max(20, 0.1 * duration)))
    tail = int(min(180, max(150, 0.3 * duration)))
    length = int(min(120, max(80, 0.2 * duration)))
    span = int(duration) - lead - tail
    if span < length:
        return Timing((), length)
    # The third starts when the first has ended: never more than two at a time.
    fitting = min(wanted, 1 + (span - length) * 2 // length)
    step = (span - length) / (fitting - 1) if fitting > 1 else 0.0
    return Timing(tuple(lead + int(i * step) for i in range(fitting)), length)


def plan_faults(world: World, start: int, duration: float) -> list[Fault]:
    """The faults of a run that starts at `start` (epoch ms) and lasts `duration` seconds, each at another campaign.

    Campaigns are picked by how much they have going on at that hour, because a fault can only be judged quickly where there is
    traffic: the outage, seen in the rare conversions, goes to the one with most of them.
    """
    when = timing(duration)
    kinds = FAULT_ORDER[: len(when.starts)]
    busy = world.rhythms(start // 1000) * np.array([c.clicks for c in world.campaigns])
    conversions = busy * np.array([c.cvr for c in world.campaigns])
    # Spend from platform reports shows a fault late, whatever the fault.
    allowed = [i for i, c in enumerate(world.campaigns) if not c.reported]
    chosen: dict[FaultKind, int] = {}
    for kind in sorted(kinds, key=lambda k: k is not FaultKind.TRACKING_OUTAGE):
        weight = conversions if kind is FaultKind.TRACKING_OUTAGE else busy
        chosen[kind] = max((i for i in allowed if i not in chosen.values()), key=lambda i: float(weight[i]))
    return [
        Fault(kind, world.campaigns[chosen[kind]].campaign_id, start + second * 1000, start + (second + when.length) * 1000)
        for kind, second in zip(kinds, when.starts, strict=True)
    ]

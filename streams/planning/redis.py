"""Redis for a load: memory of every kind, and how many masters hold it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from redis.crc import key_slot

from streams.config import Settings, Topic
from streams.planning.load import EVENTS, Load
from streams.planning.measured import Coefficients, between
from streams.planning.tables import Bytes, LevelBytes, dedupe_bytes, kept_days, levels, report_bytes, row_keys

_SLOTS = 16_384
#: Part of a core that a Redis master may use: above it reads wait noticeably behind writes.
BUSY = 0.5
#: Masters beyond which no plan is sought.
_MOST = 4_096


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes in Redis when every level of the ladder is full."""

    levels: Mapping[Topic, list[LevelBytes]]
    #: Names of rows: of all days that are kept.
    names: Mapping[Topic, float]
    ids: Mapping[Topic, float]
    reports: float
    registry: float

    @property
    def tables(self) -> Bytes:
        """All panes."""
        return sum((level.after(math.inf) for found in self.levels.values() for level in found), Bytes())

    @property
    def all(self) -> float:
        """Everything."""
        return self.tables.all + sum(self.names.values()) + sum(self.ids.values()) + self.reports + self.registry

    def of(self, topic: Topic) -> float:
        """Everything of one topic."""
        panes = sum(level.after(math.inf).all for level in self.levels[topic])
        more = {Topic.SPEND: self.reports, Topic.CAMPAIGNS: self.registry}.get(topic, 0.0)
        return panes + self.names[topic] + self.ids[topic] + more


def memory(load: Load, settings: Settings, partitions: int, c: Coefficients) -> Memory:
    """What the load comes to in Redis once it has gone on for as long as the coarsest panes are kept."""
    topics = (*EVENTS, Topic.SPEND, Topic.CAMPAIGNS)
    names = {topic: row_keys(load, topic, settings, partitions, c)[1] * kept_days(settings) for topic in topics}
    return Memory(
        levels={topic: levels(load, topic, settings, partitions, c) for topic in topics},
        names=names,
        ids={topic: dedupe_bytes(load, topic, settings, partitions, c) for topic in topics},
        reports=report_bytes(load, settings, c),
        registry=load.campaigns * c.campaign_bytes,
    )


@dataclass(frozen=True, slots=True)
class Masters:
    """How many masters, and what the fullest and the busiest of them have to carry."""

    count: int
    #: Bytes of the fullest, and how many times the mean of all that is.
    fullest: float
    uneven: float
    #: Cores that the busiest needs.
    busiest: float
    #: Whether it fits. If not, `count` is where nothing is gained by more: a topic-partition lies on one master whatever their number.
    fits: bool


def masters(load: Load, settings: Settings, partitions: int, c: Coefficients, held: Memory, limit: float) -> Masters:
    """The fewest masters of which none holds more than `limit` bytes or is busier than half a core.

    Slots are cut into equal ranges, as `redis-cli --cluster create` does; everything of a topic-partition is in one slot.
    """
    campaigns = load.campaigns / partitions
    micros = between(c.redis_cpu_us_per_event, campaigns) / 1e6
    slots = np.array([key_slot(f"{settings.topic(topic)}:{n}".encode()) for topic in held.levels for n in range(partitions)])
    sizes = np.repeat([held.of(topic) / partitions for topic in held.levels], partitions)
    cores = np.repeat([load.rate(topic) / partitions * micros for topic in held.levels], partitions)
    alone = sizes.max() > limit or cores.max() > BUSY
    count = max(1, math.ceil(sizes.sum() / limit), math.ceil(cores.sum() / BUSY))
    while True:
        master = slots * count // _SLOTS
        fullest, busiest = (float(np.bincount(master, weights=each).max()) for each in (sizes, cores))
        fits = fullest <= limit and busiest <= BUSY
        if fits or alone or count >= min(_MOST, 3 * len(slots)):
            return Masters(count, fullest, fullest / (float(sizes.sum()) / count), busiest, fits)
        count = math.ceil(count * 1.02)

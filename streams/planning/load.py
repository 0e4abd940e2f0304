"""What a cluster is planned for: events, campaigns, users, and how many rows the cubes have for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from streams.config import DIMENSIONS, Topic

#: Topics with a record per event; spend reports come by the campaign and day.
EVENTS = (Topic.CLICKS, Topic.CONVERSIONS, Topic.ENGAGEMENTS)
DAY = 86_400


@dataclass(frozen=True, slots=True)
class Values:
    """How many different values a dimension has."""

    #: In all campaigns together.
    all: float
    #: In the events of one campaign.
    per_campaign: float


@dataclass(frozen=True, slots=True)
class Load:
    """The load, spread evenly over campaigns, users and the day: no other touches as many rows and panes, or needs as much memory."""

    events_per_second: float
    campaigns: int
    #: Different users a day.
    users: float
    #: Part of a topic's events that carry a user_id, 0..1; all of them where a topic is not named.
    with_user: Mapping[Topic, float] = field(default_factory=dict)
    #: Campaigns that a user meets in a day.
    campaigns_per_user: float = 5.0
    #: Part of the events by topic; they sum to 1.
    mix: Mapping[Topic, float] = field(default_factory=lambda: {Topic.CLICKS: 0.09, Topic.CONVERSIONS: 0.01, Topic.ENGAGEMENTS: 0.90})
    #: Part of the engagements that carry dwell_ms or load_ms.
    timed: float = 0.1
    event_bytes: float = 450.0
    #: Spend reports of a campaign and day.
    reports: float = 1.0
    dimensions: Mapping[str, Values] = field(default_factory=dict)
    #: Bytes of an id or another word in a row's key.
    word_bytes: float = 16.0

    def rate(self, topic: Topic) -> float:
        """Events a second in a topic."""
        if topic is Topic.SPEND:
            return self.campaigns * self.reports / DAY
        return self.events_per_second * self.mix.get(topic, 0.0)

    @property
    def events_per_day(self) -> float:
        """Events of all topics in a day, without spend reports."""
        return self.events_per_second * DAY

    def values(self, dimension: str) -> Values:
        """Values of a dimension: those given, else what is usual."""
        return self.dimensions.get(dimension) or usual_values(self.campaigns)[dimension]

    def user_part(self, topic: Topic) -> float:
        """Part of the topic's events that carry a user_id."""
        return self.with_user.get(topic, 1.0)

    def without_users(self, *topics: Topic) -> Load:
        """The same load without a user_id in these topics."""
        return replace(self, with_user={**self.with_user, **dict.fromkeys(topics, 0.0)})


def usual_values(campaigns: int) -> dict[str, Values]:
    """Twenty campaigns an account; two channels and platforms and four creatives a campaign; eight regions, ten experiments of two."""
    found = {
        "campaign_id": Values(campaigns, 1),
        "account_id": Values(max(1.0, campaigns / 20), 1),
        "channel": Values(6, 2),
        "platform": Values(5, 2),
        "creative_id": Values(campaigns * 4, 4),
        "keyword": Values(campaigns * 50, 50),
        "region": Values(8, 8),
        "segment": Values(4, 4),
        "experiment_id": Values(10, 1),
        "variant_id": Values(2, 2),
    }
    assert set(found) == set(DIMENSIONS)
    return found


@dataclass(frozen=True, slots=True)
class CubeRows:
    """The rows of a cube for a load, over all partitions of one topic.

    A campaign is in one partition; a row that many campaigns share, such as a channel, is in every partition that has one of them.
    """

    #: Different rows.
    rows: float
    #: Campaigns that share a row.
    campaigns: float
    #: Partitions that hold a row, on average.
    partitions: float

    @property
    def stored(self) -> float:
        """Rows counted in every partition that holds them."""
        return self.rows * self.partitions


def cube_rows(load: Load, dimensions: Sequence[str], partitions: int, *, reports: bool = False) -> CubeRows:
    """Rows of the cube with these dimensions. Of `reports` a campaign has one row: they name no creative and the like."""
    values = [load.values(name) for name in dimensions]
    of_campaign = "campaign_id" in dimensions
    per_campaign = 1.0 if reports else math.prod(v.per_campaign for v in values)
    if of_campaign:
        return CubeRows(load.campaigns * per_campaign, 1.0, 1.0)
    rows = math.prod(v.all for v in values)
    shared = max(1.0, load.campaigns * min(1.0, per_campaign / rows))
    return CubeRows(rows, shared, spread(shared, partitions))


def spread(balls: float, boxes: float) -> float:
    """How many of the boxes hold at least one of the balls, thrown at random, on average."""
    return boxes * -math.expm1(balls * math.log1p(-1.0 / boxes)) if boxes > 1 else 1.0


def distinct(events: float, pool: float) -> float:
    """How many different members of a pool are met by so many events, each with a member at random."""
    return pool * -math.expm1(-events / pool) if pool > 0 else 0.0

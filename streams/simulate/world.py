"""The simulated marketer: campaigns of Zipf-like sizes with budgets, and how busy each is at any time of its own day."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from streams.simulate.catalogue import (
    CHANNEL_ORDER,
    CHANNELS,
    MARKETS,
    OWNERS,
    RATES,
    REPORTING_PLATFORM,
    SUBJECTS,
    Channel,
    Market,
)

Floats = NDArray[np.float64]

#: What a world has when nothing is said: campaigns, and events/s of all of them.
CAMPAIGNS, RATE = 48, 280.0
MIN_CAMPAIGNS = 12
MAX_CAMPAIGNS = 5_000

#: After a click: page seen, time on page sent, a rating left (of conversions), a purchase sent back.
PAGE_VIEW_RATE, DWELL_RATE, RATING_RATE, REFUND_RATE = 0.9, 0.7, 0.03, 0.03
#: Mean of a purchase in US dollars.
ORDER_VALUE = 62.0

#: Sizes fall with (rank + offset) ** -exponent (Zipf-Mandelbrot): a few carry most of the traffic, a long tail the rest.
SIZE_OFFSET, SIZE_EXPONENT = 8.0, 3.0


@dataclass(frozen=True, slots=True)
class SimCampaign:
    """A campaign and the average behaviour of its audience. Money is in `currency`."""

    campaign_id: str
    name: str
    owner: str
    channel: Channel
    platform: str
    market: Market
    #: Impressions per second, mean over a day.
    impressions: float
    ctr: float
    cvr: float
    #: Mean cost of a click and mean value of a purchase.
    cpc: float
    order_value: float
    daily_budget: Decimal
    creatives: tuple[str, ...]
    experiment_id: str | None

    @property
    def reported(self) -> bool:
        """Whether its spend comes from the platform's reports; then its clicks carry no cost."""
        return self.platform == REPORTING_PLATFORM

    @property
    def clicks(self) -> float:
        """Clicks per second, mean over a day."""
        return self.impressions * self.ctr

    def registry_entry(self, today: date) -> dict[str, Any]:
        """The campaign as it is published to the registry."""
        return {
            "campaign_id": self.campaign_id,
            "name": self.name,
            "account_id": self.market.account_id,
            "channel": self.channel.name,
            "platform": self.platform,
            "owner": self.owner,
            "time_zone": self.market.time_zone,
            "starts_on": (today - timedelta(days=30)).isoformat(),
            "ends_on": (today + timedelta(days=60)).isoformat(),
            "budget": {"daily": str(self.daily_budget)},
            "currency": self.market.currency,
            "pacing": "even",
            "labels": {"market": self.market.code},
        }


@dataclass(frozen=True, slots=True)
class World:
    """All campaigns, largest first."""

    campaigns: tuple[SimCampaign, ...]

    @property
    def rate(self) -> float:
        """Events per second of all campaigns, mean over a day."""
        return sum(c.impressions * events_per_impression(c.channel) for c in self.campaigns)

    def impressions(self) -> Floats:
        """Impressions per second of each campaign, mean over a day."""
        return np.array([c.impressions for c in self.campaigns])

    def events_per_second(self, start: int, end: int) -> float:
        """Mean rate of all events between two moments (epoch seconds), taken halfway."""
        events = np.array([c.impressions * events_per_impression(c.channel) for c in self.campaigns])
        return float((events * self.rhythms((start + end) // 2)).sum())

    def rhythms(self, at: int) -> Floats:
        """How busy each campaign is at `at` (epoch seconds), by the clock of its own market; the mean over a day is 1."""
        zones = {c.market.time_zone for c in self.campaigns}
        moment = datetime.fromtimestamp(at, UTC)
        by_zone = {zone: rhythm(_local_hour(moment, zone)) for zone in zones}
        return np.array([by_zone[c.market.time_zone] for c in self.campaigns])


def _local_hour(moment: datetime, zone: str) -> float:
    local = moment.astimezone(ZoneInfo(zone))
    return local.hour + local.minute / 60 + local.second / 3600


def rhythm(hour: float) -> float:
    """Traffic at a local hour (0..24) against the day's mean: quiet before dawn, busy from noon to the evening. Smooth; the mean is 1."""
    return 1 + 0.28 * math.cos(2 * math.pi * (hour - 16) / 24) + 0.06 * math.cos(2 * math.pi * (hour - 9) / 12)


def events_per_impression(channel: Channel) -> float:
    """Events that one impression leads to on average, itself included."""
    after_click = 1 + PAGE_VIEW_RATE + DWELL_RATE
    purchase = dict(channel.conversions).get("purchase", 0.0)
    after_click += channel.cvr * (1 + purchase * REFUND_RATE + RATING_RATE)
    return 1 + sum(p for _, p in channel.interactions) + channel.ctr * after_click


def to_currency(dollars: float, currency: str) -> float:
    """US dollars in another currency, at the catalogue's rate."""
    return dollars if currency == "USD" else dollars / float(RATES[currency])


def build_world(
    rng: np.random.Generator, campaigns: int = CAMPAIGNS, rate: float = RATE, currencies: Collection[str] | None = None
) -> World:
    """Make `campaigns` campaigns that send `rate` events/s together, mean over a day. The same generator state gives the same world.

    `currencies` limits the markets to those billed in them. Raises ValueError for fewer than 12 or more than 5,000 campaigns, a
    rate of 0 or less, or when no market is left.
    """
    if not MIN_CAMPAIGNS <= campaigns <= MAX_CAMPAIGNS:
        raise ValueError(f"campaigns: {campaigns} is outside {MIN_CAMPAIGNS}..{MAX_CAMPAIGNS}")
    if not rate > 0:
        raise ValueError(f"rate: {rate} is not above 0 events/s")
    markets = [m for m in MARKETS if currencies is None or m.currency in currencies]
    if not markets:
        raise ValueError(
            f"currencies: the markets are billed in {', '.join(sorted({m.currency for m in MARKETS}))}, and none of them is known"
        )
    sizes = (np.arange(campaigns) + 1 + SIZE_OFFSET) ** -SIZE_EXPONENT
    sizes = sizes * rng.uniform(0.95, 1.05, campaigns)
    sizes = np.sort(sizes)[::-1] / sizes.sum() * rate
    return World(tuple(_campaign(rng, markets, rank, float(events)) for rank, events in enumerate(sizes)))


def _campaign(rng: np.random.Generator, markets: Sequence[Market], rank: int, events: float) -> SimCampaign:
    by_name = {c.name: c for c in CHANNELS}
    channel = by_name[CHANNEL_ORDER[rank % len(CHANNEL_ORDER)]]
    market = markets[rank] if rank < len(markets) else markets[int(rng.integers(len(markets)))]
    platform = channel.platforms[int(rng.integers(len(channel.platforms)))]
    impressions = events / events_per_impression(channel)
    cpc = to_currency(channel.cpc * float(rng.uniform(0.8, 1.25)), market.currency)
    campaign_id = f"c-{rank + 1:03d}"
    return SimCampaign(
        campaign_id=campaign_id,
        name=f"{SUBJECTS[int(rng.integers(len(SUBJECTS)))]} {channel.name.title()} {market.code}",
        owner=OWNERS[int(rng.integers(len(OWNERS)))],
        channel=channel,
        platform=platform,
        market=market,
        impressions=impressions,
        ctr=channel.ctr,
        cvr=channel.cvr,
        cpc=cpc,
        order_value=to_currency(ORDER_VALUE * float(rng.uniform(0.7, 1.4)), market.currency),
        daily_budget=_daily_budget(impressions * channel.ctr, cpc),
        creatives=tuple(f"{campaign_id}-cr{i + 1}" for i in range(int(rng.integers(2, 5)))),
        experiment_id=f"exp-{rank + 1:03d}" if rank % 4 == 1 else None,
    )


def _daily_budget(clicks: float, cpc: float) -> Decimal:
    """A day's budget that normal traffic stays well inside, rounded up to two digits.

    Thirty percent above the mean covers the busiest hours; small campaigns, whose minutes are lumpy, get more room the fewer clicks
    they have in five minutes.
    """
    room = 1.3 * (1 + 4 / math.sqrt(clicks * 300))
    wanted = Decimal(clicks * cpc * 86_400 * room)
    step = Decimal(10) ** (wanted.adjusted() - 1)
    return ((wanted / step).to_integral_value(ROUND_CEILING) * step).quantize(Decimal(1))

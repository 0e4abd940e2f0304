"""What the audience does, second by second: counts around each campaign's rate, the funnel behind every impression, and how it all arrives.

A second of simulated time is always generated in one piece and in order, so the same seed and start give the same events however fast
they are played.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streams.config import Topic
from streams.simulate import wire
from streams.simulate.broken import broken_event
from streams.simulate.catalogue import BOT_BROWSER, BROWSERS, KEYWORDS, SEGMENTS
from streams.simulate.faults import DROP_FACTOR, RUNAWAY_FACTOR, SPIKE_FACTOR, Fault, FaultKind
from streams.simulate.world import DWELL_RATE, PAGE_VIEW_RATE, RATING_RATE, REFUND_RATE, World

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Variance of a count against its mean; 1 would be Poisson. Holds for a second as for any longer time.
DISPERSION = 1.2
USERS = 60_000

#: Longest time from an impression to the last thing it leads to, seconds: what a start has to be warmed up by.
FUNNEL_SECONDS = 300

#: Share of events that arrive late, their mean delay and the longest one, seconds.
LATE_SHARE, LATE_MEAN, LATE_MAX = 0.02, 25.0, 120.0
#: Share of events sent a second time, and of broken ones sent beside the good.
DUPLICATE_SHARE, BROKEN_SHARE = 0.01, 0.002

#: Seconds after the end of its minute that the platform reports spend (longer than the way from impression to click), and after which
#: it corrects some of the reports.
REPORT_DELAY, RESTATE_DELAY = 25, 150
#: Share of reports that are corrected; the first word then was this much of the truth.
RESTATED_SHARE, FIRST_WORD = 0.15, Decimal("0.96")

#: Records are due by the tenth of a second.
TICK = 100


class Record(NamedTuple):
    """One record for Kafka."""

    topic: Topic
    #: Place of the campaign in the world, whose id is the record's key.
    campaign: int
    #: When it happened, epoch ms.
    occurred_at: int
    value: bytes


@dataclass(slots=True)
class People:
    """Somebody meeting something of a campaign, one element each; the dimensions that stay with them through the funnel."""

    campaign: Ints
    at: Ints
    user: Ints
    creative: Ints
    region: Ints
    segment: Ints

    def take(self, which: NDArray[np.bool_], later: Floats) -> People:
        """Those of `which`, `later` milliseconds (one per person taken) further on."""
        return People(
            self.campaign[which],
            self.at[which] + later.astype(np.int64),
            self.user[which],
            self.creative[which],
            self.region[which],
            self.segment[which],
        )

    def __len__(self) -> int:
        return len(self.campaign)


class Traffic:
    """All events of a world from `start` (epoch seconds) on.

    `run` goes into every event id; two runs against the same topics need different ones.
    """

    def __init__(self, world: World, rng: np.random.Generator, start: int, run: str = "sim") -> None:
        self._world = world
        self._rng = rng
        self._run = run
        self._start = start
        self._next = start - FUNNEL_SECONDS
        self._made = 0
        self._faults: tuple[Fault, ...] = ()
        self._pending: dict[int, list[Record]] = defaultdict(list)
        self._tick = start * 1000 // TICK
        self._reported: dict[int, dict[int, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        campaigns = world.campaigns
        self._places = {c.campaign_id: i for i, c in enumerate(campaigns)}
        self._impressions = world.impressions()
        self._ctr = np.array([c.ctr for c in campaigns])
        self._cvr = np.array([c.cvr for c in campaigns])
        self._cpc = np.array([c.cpc for c in campaigns])
        self._order_value = np.array([c.order_value for c in campaigns])
        self._creatives = np.array([len(c.creatives) for c in campaigns])
        self._reporting = np.array([c.reported for c in campaigns])
        self._interactions = {
            kind: np.array([dict(c.channel.interactions).get(kind, 0.0) for c in campaigns])
            for kind in sorted({k for c in campaigns for k, _ in c.channel.interactions})
        }
        self._conversion_kinds = sorted({k for c in campaigns for k, _ in c.channel.conversions})
        shares = np.array([[dict(c.channel.conversions).get(k, 0.0) for k in self._conversion_kinds] for c in campaigns])
        self._conversion_shares = np.cumsum(shares, axis=1)
        self._static = [(c.campaign_id, c.channel.name, c.market.account_id, c.platform) for c in campaigns]

    @property
    def generated_until(self) -> int:
        """The next second to be generated, epoch seconds."""
        return self._next

    def inject(self, faults: Sequence[Fault]) -> None:
        """Let these faults happen; their start must not have been generated yet."""
        self._faults = tuple(faults)

    def records_until(self, until: int) -> list[Record]:
        """Every record that is due before `until` (epoch ms, a whole tenth of a second) and was not given yet, in the order of sending."""
        while self._next * 1000 < until:
            self._generate(self._next)
            self._next += 1
        due: list[Record] = []
        while self._tick < until // TICK:
            due.extend(self._pending.pop(self._tick, ()))
            self._tick += 1
        # An outage loses what happens while it lasts, also the late effects of clicks before it.
        for outage in (f for f in self._faults if f.kind is FaultKind.TRACKING_OUTAGE):
            place = self._places[outage.campaign_id]
            due = [r for r in due if not (r.campaign == place and r.topic is Topic.CONVERSIONS and outage.active(r.occurred_at))]
        return due

    # -- one second ----------------------------------------------------------------------------------------------------------

    def _generate(self, second: int) -> None:
        rng = self._rng
        rates = self._impressions * self._world.rhythms(second)
        for place in self._hit_by(FaultKind.TRAFFIC_DROP, second):
            rates[place] *= DROP_FACTOR
        people = self._people(second, _over_dispersed(rng, rates))
        self._send_engagements(people, "impression")
        for kind, probability in self._interactions.items():
            took_part = rng.random(len(people)) < probability[people.campaign]
            self._send_engagements(people.take(took_part, rng.exponential(2_500, int(took_part.sum())) + 300), kind)
        clicked = rng.random(len(people)) < self._ctr[people.campaign]
        clicks = people.take(clicked, np.minimum(rng.exponential(1_800, int(clicked.sum())) + 400, 20_000))
        self._send_clicks(clicks, second)
        self._after_click(clicks)
        self._bots(second, rates)
        self._spend_reports(second)

    def _hit_by(self, kind: FaultKind, second: int) -> list[int]:
        return [self._places[f.campaign_id] for f in self._faults if f.kind is kind and f.active(second * 1000)]

    def _people(self, second: int, counts: Ints) -> People:
        rng = self._rng
        campaign = np.repeat(np.arange(len(counts)), counts)
        n = len(campaign)
        return People(
            campaign=campaign,
            at=second * 1000 + rng.integers(0, 1000, n),
            # Squared: some people are seen far more often than others.
            user=(USERS * rng.random(n) ** 2).astype(np.int64),
            creative=(rng.random(n) ** 1.4 * self._creatives[campaign]).astype(np.int64),
            region=rng.integers(0, 3, n),
            segment=(rng.random(n) ** 1.5 * len(SEGMENTS)).astype(np.int64),
        )

    def _after_click(self, clicks: People) -> None:
        rng = self._rng
        n = len(clicks)
        saw = rng.random(n) < PAGE_VIEW_RATE
        load = np.minimum(rng.lognormal(7.1, 0.5, int(saw.sum())), 30_000)
        self._send_engagements(clicks.take(saw, load), "page_view", load_ms=load)
        stayed = rng.random(n) < DWELL_RATE
        dwell = np.minimum(rng.lognormal(9.4, 0.8, int(stayed.sum())), 110_000)
        self._send_engagements(clicks.take(stayed, dwell + 800), "dwell", dwell_ms=dwell)
        bought = rng.random(n) < self._cvr[clicks.campaign]
        lag = np.minimum(rng.lognormal(9.4, 0.6, int(bought.sum())) + 1_500, 60_000)
        conversions = clicks.take(bought, lag)
        self._send_conversions(conversions, clicks.at[bought])
        rated = rng.random(len(conversions)) < RATING_RATE
        self._send_engagements(
            conversions.take(rated, rng.uniform(2_000, 40_000, int(rated.sum()))), "rating", rating=rng.integers(40, 101, int(rated.sum()))
        )

    def _bots(self, second: int, rates: Floats) -> None:
        """Clicks of few machines that see no advertisement, read no page and buy nothing; the platform does not charge for them."""
        for place in self._hit_by(FaultKind.TRAFFIC_SPIKE, second):
            extra = np.zeros(len(rates))
            extra[place] = (SPIKE_FACTOR - 1) * rates[place] * self._ctr[place]
            bots = self._people(second, _over_dispersed(self._rng, extra))
            bots.user %= 40
            self._send_clicks(bots, second, bots=True)

    # -- events from people --------------------------------------------------------------------------------------------------

    def _next_ids(self, n: int) -> range:
        first = self._made
        self._made += n
        return range(first, first + n)

    def _shared(self, people: People) -> list[wire.Shared]:
        campaigns = self._world.campaigns
        rows: list[wire.Shared] = []
        columns = (people.campaign, people.creative, people.region, people.segment, people.user)
        for c, creative, region, segment, user in zip(*(x.tolist() for x in columns), strict=True):
            campaign = campaigns[c]
            experiment = campaign.experiment_id
            rows.append(
                (
                    *self._static[c],
                    campaign.creatives[creative],
                    campaign.market.regions[region],
                    SEGMENTS[segment],
                    f"u{user}",
                    experiment,
                    None if experiment is None else ("control", "variant-b")[user & 1],
                )
            )
        return rows

    def _send_engagements(
        self, people: People, kind: str, dwell_ms: Floats | None = None, load_ms: Floats | None = None, rating: Ints | None = None
    ) -> None:
        n = len(people)
        if not n:
            return
        none: list[int | None] = [None] * n
        dwells = none if dwell_ms is None else dwell_ms.astype(np.int64).tolist()
        loads = none if load_ms is None else load_ms.astype(np.int64).tolist()
        ratings = none if rating is None else rating.tolist()
        run = self._run
        values = [
            wire.engagement(f"{run}-{i}", at, shared, kind, dwell, load, stars)
            for i, at, shared, dwell, load, stars in zip(
                self._next_ids(n), people.at.tolist(), self._shared(people), dwells, loads, ratings, strict=True
            )
        ]
        self._arrive(Topic.ENGAGEMENTS, people, values)

    def _send_clicks(self, people: People, second: int, bots: bool = False) -> None:
        n = len(people)
        if not n:
            return
        rng = self._rng
        cost = self._cpc[people.campaign] * rng.lognormal(-0.03125, 0.25, n)
        for place in self._hit_by(FaultKind.BUDGET_RUNAWAY, second):
            cost[people.campaign == place] *= RUNAWAY_FACTOR
        if bots:
            cost[:] = 0
        self._note_reported(people, cost)
        cost[self._reporting[people.campaign]] = 0
        browsers = [BOT_BROWSER] * n if bots else [BROWSERS[i] for i in rng.integers(0, len(BROWSERS), n).tolist()]
        keywords = rng.integers(0, len(KEYWORDS), n).tolist()
        campaigns = self._world.campaigns
        run = self._run
        values = [
            wire.click(
                f"{run}-{i}",
                at,
                shared,
                price,
                campaigns[c].market.currency,
                f"203.0.113.{user % 250}" if bots else f"198.51.{user >> 8 & 255}.{user & 255}",
                browser,
                KEYWORDS[keyword] if campaigns[c].channel.name == "search" else None,
            )
            for i, at, shared, c, price, user, browser, keyword in zip(
                self._next_ids(n),
                people.at.tolist(),
                self._shared(people),
                people.campaign.tolist(),
                np.round(cost, 4).tolist(),
                people.user.tolist(),
                browsers,
                keywords,
                strict=True,
            )
        ]
        self._arrive(Topic.CLICKS, people, values)

    def _send_conversions(self, people: People, clicked_at: Ints) -> None:
        n = len(people)
        if not n:
            return
        rng = self._rng
        which = (rng.random(n)[:, None] >= self._conversion_shares[people.campaign, :-1]).sum(axis=1)
        kinds = [self._conversion_kinds[k] for k in which.tolist()]
        purchase = np.array([kind == "purchase" for kind in kinds])
        value: Floats = np.where(purchase, self._order_value[people.campaign] * rng.lognormal(-0.125, 0.5, n), 0.0).round(2)
        new = (rng.random(n) < 0.4).tolist()
        returned = purchase & (rng.random(n) < REFUND_RATE)
        ids = self._next_ids(n)
        self._convert(people, ids, kinds, value, new, clicked_at.tolist())
        if returned.any():
            m = int(returned.sum())
            orders = np.array(ids)[returned]
            refunds = people.take(returned, rng.uniform(30_000, 100_000, m))
            self._convert(refunds, self._next_ids(m), ["refund"] * m, value[returned], [False] * m, [None] * m, orders.tolist())

    def _convert(
        self,
        people: People,
        ids: Sequence[int],
        kinds: Sequence[str],
        value: Floats,
        new: Sequence[bool],
        clicked_at: Sequence[int | None],
        orders: Sequence[int] | None = None,
    ) -> None:
        campaigns = self._world.campaigns
        run = self._run
        occurred = np.datetime_as_string(people.at.astype("datetime64[ms]"), timezone="UTC").tolist()
        values = [
            wire.conversion(f"{run}-{i}", at, shared, f"o-{run}-{order}", kind, price, campaigns[c].market.currency, is_new, clicked)
            for i, order, at, shared, c, kind, price, is_new, clicked in zip(
                ids,
                ids if orders is None else orders,
                occurred,
                self._shared(people),
                people.campaign.tolist(),
                kinds,
                value.tolist(),
                new,
                clicked_at,
                strict=True,
            )
        ]
        self._arrive(Topic.CONVERSIONS, people, values)

    # -- spend as the platform reports it ------------------------------------------------------------------------------------

    def _note_reported(self, clicks: People, cost: Floats) -> None:
        for i in np.flatnonzero(self._reporting[clicks.campaign]).tolist():
            minute = int(clicks.at[i]) // 60_000
            self._reported[minute][int(clicks.campaign[i])] += Decimal(f"{cost[i]:.4f}")

    def _spend_reports(self, second: int) -> None:
        """Twenty seconds after a minute, its spend per campaign; some reports are a little short and corrected later."""
        minute, into = divmod(second - 60 - REPORT_DELAY, 60)
        if into:
            return
        amounts = self._reported.pop(minute, {})
        if minute * 60 < self._start:
            return
        for place, amount in sorted(amounts.items()):
            if self._rng.random() < RESTATED_SHARE:
                first = (amount * FIRST_WORD).quantize(Decimal("0.0001"))
                self._report(second, minute, place, first, 0)
                self._report(second + RESTATE_DELAY, minute, place, amount, 1)
            else:
                self._report(second, minute, place, amount, 0)

    def _report(self, second: int, minute: int, place: int, amount: Decimal, revision: int) -> None:
        campaign_id, channel, account_id, platform = self._static[place]
        report = wire.SpendReport(
            event_id=f"{self._run}-{self._next_ids(1)[0]}",
            occurred_at=_rfc3339(second),
            campaign_id=campaign_id,
            channel=channel,
            account_id=account_id,
            platform=platform,
            period_start=_rfc3339(minute * 60),
            period_end=_rfc3339(minute * 60 + 60),
            amount=str(amount),
            currency=self._world.campaigns[place].market.currency,
            revision=revision,
        )
        self._hold(second * 1000 + int(self._rng.integers(0, 4_000)), Record(Topic.SPEND, place, second * 1000, wire.encode(report)))

    # -- the way to Kafka ----------------------------------------------------------------------------------------------------

    def _arrive(self, topic: Topic, people: People, values: list[bytes]) -> None:
        """Most events arrive at once, some late, some twice, and a few broken ones come along."""
        rng = self._rng
        n = len(values)
        late = rng.random(n) < LATE_SHARE
        delay = 60 + rng.exponential(150, n)
        delay[late] += np.minimum(rng.exponential(LATE_MEAN, int(late.sum())), LATE_MAX) * 1000
        due = people.at + delay.astype(np.int64)
        records = [Record(topic, c, at, value) for c, at, value in zip(people.campaign.tolist(), people.at.tolist(), values, strict=True)]
        pending = self._pending
        start = self._start * 1000
        for tick, record in zip((due // TICK).tolist(), records, strict=True):
            if record.occurred_at >= start:
                pending[tick].append(record)
        for i in np.flatnonzero(rng.random(n) < DUPLICATE_SHARE).tolist():
            self._hold(int(due[i] + rng.exponential(6_000)) + 1, records[i])
        for i in np.flatnonzero(rng.random(n) < BROKEN_SHARE).tolist():
            event_id = f"{self._run}-{self._next_ids(1)[0]}"
            broken = broken_event(int(rng.integers(1 << 30)), values[i], event_id)
            self._hold(int(due[i]), records[i]._replace(value=broken))

    def _hold(self, due: int, record: Record) -> None:
        if record.occurred_at >= self._start * 1000:
            self._pending[due // TICK].append(record)


def _over_dispersed(rng: np.random.Generator, means: Floats) -> Ints:
    """Counts around `means` whose variance is DISPERSION times the mean (negative binomial; 0 where the mean is 0)."""
    shape = np.maximum(means, 1e-12) / (DISPERSION - 1)
    counts = rng.negative_binomial(shape, 1 / DISPERSION)
    return np.where(means > 0, counts, 0).astype(np.int64)


def _rfc3339(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

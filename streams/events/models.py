"""What producers send: one pydantic model per topic, field by field as the contract says.

A model judges a record's own content; what depends on the installation or on the record's key is judged by `events.parsing`. In every
model null and "" are the same as an absent field, and unknown fields are ignored. Money is exact to a millionth of its currency.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator

from streams.config import Topic
from streams.events.fields import (
    LARGEST_INTEGER,
    Amount,
    Calendar,
    Day,
    Hundredths,
    Instant,
    Labels,
    OneOf,
    Pacing,
    Pattern,
    Text,
    TimeZone,
    Whole,
)

#: Longest dwell_ms and load_ms: a day.
DAY_MS = 86_400_000
LONGEST_PERIOD = timedelta(days=31)
#: How far an event's time may lie after its record's: clocks differ a little.
FUTURE_MS = 5 * 60_000
KIND_PATTERN = r"[a-z][a-z0-9_]{0,63}"
#: Kinds that no event may have: `conversions_new` is a measure of its own.
RESERVED_KINDS = ("new",)
CURRENCY_PATTERN = r"[A-Za-z]{3}"

EventId = Annotated[str, Text(128)]
CampaignId = Annotated[str, Text(128, control_characters=False)]
Channel = Annotated[str, Text(64, lower_case=True)]
Short = Annotated[str, Text(256)]
Long = Annotated[str, Text(2048)]
Kind = Annotated[
    str, Pattern(KIND_PATTERN, "a lower-case letter, then at most 63 lower-case letters, digits and underscores", reserved=RESERVED_KINDS)
]
Currency = Annotated[str, Pattern(CURRENCY_PATTERN, "three letters (ISO 4217) such as EUR", upper_case=True)]
Price = Annotated[Decimal, Amount()]
Time = Annotated[datetime, Instant()]
Minute = Annotated[datetime, Instant(whole_minutes=True)]
Milliseconds = Annotated[int, Whole(DAY_MS)]

ZERO = Decimal(0)


class Record(BaseModel):
    """What all models share."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _blank_is_absent(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        return {name: content[name] for name in cls.model_fields if content.get(name) is not None and content[name] != ""}


class Event(Record):
    """What clicks, conversions, engagements and spend reports share."""

    event_id: EventId
    """The producer's own id. A second event with it, in the same topic and partition and within the dedupe horizon, is a duplicate."""
    occurred_at: Time
    """When it happened. Kept to the millisecond, rounded down."""
    campaign_id: CampaignId
    """The campaign; also the recommended key of the record (required for spend)."""
    channel: Channel
    """Free; lower-cased: search, social, display, video, email, affiliate, organic, direct, ..."""
    account_id: Short | None = None
    """The advertiser's account."""
    platform: Short | None = None
    """The ad platform. It decides whether spend is counted from events or from reports."""
    creative_id: Short | None = None
    """The ad that was shown."""
    keyword: Short | None = None
    """The keyword that was bought."""
    region: Short | None = None
    """Where, in the producer's own words."""
    segment: Short | None = None
    """The audience segment."""
    user_id: Short | None = None
    """The person, as the producer knows them. Stored only as a keyed hash; counted in reach."""
    experiment_id: Short | None = None
    """The experiment that this was part of."""
    variant_id: Short | None = None
    """The experiment's variant."""
    ip: Short | None = None
    """The person's address. Never stored."""
    user_agent: Long | None = None
    """The person's browser. Never stored."""
    landing_page: Long | None = None
    """The page that was opened."""


class Click(Event):
    """A click on an ad."""

    cost: Price = ZERO
    """What the click cost."""
    currency: Currency | None = None
    """ISO 4217 code of the cost, in any case. Default: the reporting currency."""


class Conversion(Event):
    """What a campaign is for: a lead, a signup, a purchase, or one taken back."""

    kind: Kind
    """lead, signup, purchase, refund, install, trial, subscription, or a kind of your own; `new` is reserved."""
    value: Price = ZERO
    """What it is worth. A refund's value is positive too: its kind says the sign."""
    currency: Currency | None = None
    """ISO 4217 code of the value, in any case. Default: the reporting currency."""
    order_id: Short | None = None
    """The order in the shop."""
    customer_type: Annotated[str, OneOf(("new", "returning"))] | None = None
    """Whether the customer is a new one."""
    clicked_at: Time | None = None
    """The click that led to it, where known."""


class Engagement(Event):
    """An ad that was shown, or what a person did with it."""

    kind: Kind
    """impression, page_view, view, like, share, comment, save, follow, search, dwell, rating, or a kind of your own; `new` is reserved."""
    cost: Price = ZERO
    """What it cost."""
    currency: Currency | None = None
    """ISO 4217 code of the cost, in any case. Default: the reporting currency."""
    dwell_ms: Milliseconds | None = None
    """How long the person stayed, ms; counted on any kind."""
    load_ms: Milliseconds | None = None
    """How long the page took to load, ms; counted on any kind."""
    term: Short | None = None
    """What was searched for."""
    rating: Annotated[int, Hundredths(100)] | None = None
    """A rating from 0 to 100, rounded half-even to hundredths (and kept in them); counted on any kind."""


class Spend(Event):
    """What the ad platform reports to have spent over a period. A higher revision replaces what it restates."""

    platform: Short
    """The ad platform that reports."""
    period_start: Minute
    """First minute of the period."""
    period_end: Minute
    """End of the period, not part of it; after the start, at most 31 days later."""
    amount: Price
    """What was spent in the period; it is spread evenly over its minutes."""
    currency: Currency | None = None
    """ISO 4217 code of the amount, in any case. Default: the reporting currency."""
    revision: Annotated[int, Whole(LARGEST_INTEGER)] = 0
    """Which restatement of the same campaign, platform and period this is; an equal or lower one than applied is a duplicate."""

    @model_validator(mode="after")
    def _period_fits(self) -> Spend:
        length = self.period_end - self.period_start
        if length <= timedelta(0):
            raise ValueError("period_end: expected a time after period_start")
        if length > LONGEST_PERIOD:
            raise ValueError(f"period_end: expected at most {LONGEST_PERIOD.days} days after period_start")
        return self


class Budget(Record):
    """What may be spent, in the campaign's currency."""

    daily: Price | None = None
    """Per day of the campaign's own time zone."""
    monthly: Price | None = None
    """Per calendar month of the campaign's own time zone."""
    lifetime: Price | None = None
    """From start to end."""


class Targets(Record):
    """What the campaign should reach."""

    cpa: Price | None = None
    """Most that a conversion may cost, in the campaign's currency."""
    roas: Price | None = None
    """Least net revenue per unit of spend, a ratio."""
    gmv: Price | None = None
    """Gross merchandise value to reach, in the campaign's currency."""


class Campaign(Record):
    """A campaign of the registry: the latest record of a key counts, one with a null value deletes it."""

    campaign_id: CampaignId
    """The campaign; also the record's key."""
    name: Short
    """What people call it."""
    account_id: Short | None = None
    """The advertiser's account."""
    channel: Channel | None = None
    """Its channel, lower-cased."""
    platform: Short | None = None
    """Its ad platform."""
    owner: Short | None = None
    """Who looks after it."""
    time_zone: Annotated[str, TimeZone()] = "UTC"
    """IANA time zone of its days and months."""
    starts_on: Annotated[date, Day()] | None = None
    """First day, in its time zone."""
    ends_on: Annotated[date, Day()] | None = None
    """Last day, in its time zone."""
    budget: Budget | None = None
    """What may be spent."""
    currency: Currency | None = None
    """ISO 4217 code of budget and targets, in any case. Default: the reporting currency."""
    pacing: Annotated[str | tuple[Decimal, ...], Pacing()] = "even"
    """How the budget is to be spent over the day: even, profile (as its history went), asap, or a curve of weights for equal slices."""
    targets: Targets | None = None
    """What it should reach."""
    calendar: Annotated[dict[date, Decimal], Calendar()] | None = None
    """Days that are not like others: date -> how many ordinary days it weighs."""
    labels: Annotated[dict[str, str] | tuple[str, ...], Labels()] | None = None
    """Words to file it under."""

    @model_validator(mode="after")
    def _dates_fit(self) -> Campaign:
        if self.starts_on and self.ends_on and self.ends_on < self.starts_on:
            raise ValueError("ends_on: expected the day of starts_on or a later one")
        return self


#: The model of each topic that producers write.
MODELS: dict[Topic, type[Event] | type[Campaign]] = {
    Topic.CLICKS: Click,
    Topic.CONVERSIONS: Conversion,
    Topic.ENGAGEMENTS: Engagement,
    Topic.SPEND: Spend,
    Topic.CAMPAIGNS: Campaign,
}

#: Personal data, or what may hold some (an address of a page, a search term): never shown in messages, logs or tables.
PERSONAL_FIELDS = ("user_id", "ip", "user_agent", "landing_page", "term")


def unknown_fields(content: Mapping[str, Any], model: type[Record], holder: str = "") -> Iterator[tuple[str, str, list[str]]]:
    """Fields that the model does not have: in which part they stand, their name, and fields of that part that are not given."""
    absent = [name for name in model.model_fields if content.get(name) in (None, "")]
    for name, value in content.items():
        field = model.model_fields.get(name)
        if field is None:
            yield holder, name, absent
            continue
        for inner in get_args(field.annotation):
            if isinstance(value, dict) and isinstance(inner, type) and issubclass(inner, Record):
                yield from unknown_fields(value, inner, f"{name}.")

"""The events again, as strict msgspec structs: the fast decoder's view of `streams.events.models`.

A struct never takes what the model refuses; what it cannot express (a "" for an absent number, a form of time) is checked by the
columns or left to the arbiter. Limits are those of the models.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from streams.config import Topic
from streams.events.fields import LARGEST_INTEGER
from streams.events.models import DAY_MS
from streams.events.times import EARLIEST_MS, LATEST_MS

EventId = Annotated[str, Meta(min_length=1, max_length=128)]
Channel = Annotated[str, Meta(min_length=1, max_length=64)]
Required = Annotated[str, Meta(min_length=1, max_length=256)]
Short = Annotated[str, Meta(max_length=256)] | None
Long = Annotated[str, Meta(max_length=2048)] | None
Time = Annotated[int, Meta(ge=EARLIEST_MS, le=LATEST_MS)] | str
Price = float | str | None
Milliseconds = Annotated[int, Meta(ge=0, le=DAY_MS)] | None


class EventStruct(Struct, gc=False, kw_only=True):
    """Fields that all topics of events share."""

    event_id: EventId
    occurred_at: Time
    campaign_id: EventId
    channel: Channel
    account_id: Short = None
    platform: Short = None
    creative_id: Short = None
    keyword: Short = None
    region: Short = None
    segment: Short = None
    user_id: Short = None
    experiment_id: Short = None
    variant_id: Short = None
    ip: Short = None
    user_agent: Long = None
    landing_page: Long = None
    currency: Short = None


class ClickStruct(EventStruct, gc=False, kw_only=True):
    """A click."""

    cost: Price = None


class ConversionStruct(EventStruct, gc=False, kw_only=True):
    """A conversion."""

    kind: Required
    value: Price = None
    order_id: Short = None
    customer_type: Short = None
    clicked_at: Time | None = None


class EngagementStruct(EventStruct, gc=False, kw_only=True):
    """An engagement."""

    kind: Required
    cost: Price = None
    dwell_ms: Milliseconds = None
    load_ms: Milliseconds = None
    term: Short = None
    rating: int | float | None = None


class SpendStruct(EventStruct, gc=False, kw_only=True):
    """A spend report."""

    platform: Required
    period_start: Time
    period_end: Time
    amount: float | Annotated[str, Meta(min_length=1)]
    revision: Annotated[int, Meta(ge=0, le=LARGEST_INTEGER)] | None = None


#: The struct of each topic, and the field that its money is in.
STRUCTS: dict[Topic, tuple[type[EventStruct], str]] = {
    Topic.CLICKS: (ClickStruct, "cost"),
    Topic.CONVERSIONS: (ConversionStruct, "value"),
    Topic.ENGAGEMENTS: (EngagementStruct, "cost"),
    Topic.SPEND: (SpendStruct, "amount"),
}

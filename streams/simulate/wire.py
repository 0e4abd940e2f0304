"""The events of the simulation as they go over the wire; absent fields are left out."""

from __future__ import annotations

import msgspec

#: Campaign, channel, account, platform, creative, region, segment, user, experiment, variant: what `Event` has after its time, in order.
Shared = tuple[str, str, str, str, str, str, str, str, str | None, str | None]


class Event(msgspec.Struct, omit_defaults=True):
    """Fields that every event shares, in the order in which the simulation fills them."""

    event_id: str
    occurred_at: int | str
    campaign_id: str
    channel: str
    account_id: str
    platform: str
    creative_id: str
    region: str
    segment: str
    user_id: str
    experiment_id: str | None = None
    variant_id: str | None = None


class Click(Event, omit_defaults=True):
    """`PREFIX.clicks`."""

    cost: float = 0
    currency: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    keyword: str | None = None


class Conversion(Event, omit_defaults=True):
    """`PREFIX.conversions`."""

    order_id: str | None = None
    kind: str = ""
    value: float = 0
    currency: str | None = None
    customer_type: str | None = None
    clicked_at: int | None = None


class Engagement(Event, omit_defaults=True):
    """`PREFIX.engagements`."""

    kind: str = ""
    dwell_ms: int | None = None
    load_ms: int | None = None
    rating: int | None = None


class SpendReport(msgspec.Struct, omit_defaults=True):
    """`PREFIX.spend`."""

    event_id: str
    occurred_at: str
    campaign_id: str
    channel: str
    account_id: str
    platform: str
    period_start: str
    period_end: str
    amount: str
    currency: str
    revision: int = 0


encode = msgspec.json.Encoder().encode


def click(event_id: str, at: int, shared: Shared, cost: float, currency: str, ip: str, user_agent: str, keyword: str | None) -> bytes:
    """JSON of a click at `at`, epoch ms."""
    return encode(Click(event_id, at, *shared, cost=cost, currency=currency, ip=ip, user_agent=user_agent, keyword=keyword))


def conversion(
    event_id: str, at: str, shared: Shared, order_id: str, kind: str, value: float, currency: str, new: bool, clicked_at: int | None
) -> bytes:
    """JSON of a conversion at `at`, RFC 3339; `clicked_at` is epoch ms."""
    customer = "new" if new else "returning"
    return encode(
        Conversion(
            event_id,
            at,
            *shared,
            order_id=order_id,
            kind=kind,
            value=value,
            currency=currency,
            customer_type=customer,
            clicked_at=clicked_at,
        )
    )


def engagement(event_id: str, at: int, shared: Shared, kind: str, dwell_ms: int | None, load_ms: int | None, rating: int | None) -> bytes:
    """JSON of an engagement at `at`, epoch ms."""
    return encode(Engagement(event_id, at, *shared, kind=kind, dwell_ms=dwell_ms, load_ms=load_ms, rating=rating))

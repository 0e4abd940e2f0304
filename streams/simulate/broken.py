"""Events as buggy producers send them. Each kind must end in quarantine with a reason of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

#: Far beyond the five minutes of clock skew that are allowed, whatever the record's time is.
_FUTURE_MS = 3 * 86_400_000


def _cut_off(event: dict[str, Any]) -> bytes:
    return msgspec.json.encode(event)[:-9]


def _no_campaign(event: dict[str, Any]) -> bytes:
    del event["campaign_id"]
    return msgspec.json.encode(event)


def _no_time_zone(event: dict[str, Any]) -> bytes:
    event["occurred_at"] = "2026-01-15T08:30:00"
    return msgspec.json.encode(event)


def _number_for_text(event: dict[str, Any]) -> bytes:
    event["channel"] = 7
    return msgspec.json.encode(event)


def _unknown_currency(event: dict[str, Any]) -> bytes:
    event |= {"cost": "0.40", "value": "0.40", "currency": "XTS"}
    return msgspec.json.encode(event)


def _future(event: dict[str, Any]) -> bytes:
    at = event["occurred_at"]
    # Conversions carry text; the year alone moves them far enough.
    event["occurred_at"] = at + _FUTURE_MS if isinstance(at, int) else f"{int(at[:4]) + 1}-01-01{at[10:]}"
    return msgspec.json.encode(event)


KINDS: tuple[Callable[[dict[str, Any]], bytes], ...] = (
    _cut_off,
    _no_campaign,
    _no_time_zone,
    _number_for_text,
    _unknown_currency,
    _future,
)


def broken_event(which: int, value: bytes, event_id: str) -> bytes:
    """A broken version of a good event's JSON, under an id of its own; `which` picks the kind."""
    event = msgspec.json.decode(value)
    event["event_id"] = event_id
    return KINDS[which % len(KINDS)](event)

"""Columns from structs (fast, and says which rows it is sure of) and from models (slow, always sure)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.config import DIMENSIONS, Topic
from streams.events.fields import CONTROL_CHARACTER
from streams.events.models import KIND_PATTERN, RESERVED_KINDS, Conversion, Engagement, Event, Spend
from streams.events.money import Exchange
from streams.events.parsing import reporting_micros
from streams.events.times import to_epoch_ms
from streams.ingest.columns import ABSENT, Columns
from streams.ingest.decode_numbers import hundredths, integers, own_micros, to_reporting
from streams.ingest.decode_structs import STRUCTS
from streams.ingest.decode_times import epoch_ms

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MINUTE_MS = 60_000
_MOST_MINUTES = 31 * 1_440
_KIND = re.compile(KIND_PATTERN)
_CUSTOMER_TYPES = {None, "new", "returning"}


def of_structs(topic: Topic, events: Sequence[Any], index: Ints, records: Sequence[Any], exchange: Exchange) -> tuple[Columns, Bools]:
    """Columns of decoded structs, and per row whether it is sure to be valid and exact; the arbiter must judge the others.

    `index` holds the position of each event's record in `records`.
    """
    occurred_at, sure = epoch_ms([e.occurred_at for e in events])
    micros, exact = own_micros([getattr(e, STRUCTS[topic][1]) for e in events])
    to_reporting(micros, exact, [e.currency for e in events], exchange)
    sure &= exact
    campaigns = [e.campaign_id for e in events]
    if CONTROL_CHARACTER.search("".join(set(campaigns))):
        sure &= [CONTROL_CHARACTER.search(c) is None for c in campaigns]
    channels = [e.channel for e in events]
    lower_case = {channel: channel.lower() for channel in set(channels)}
    columns = Columns(
        index=index,
        record_time=_record_times(records, index),
        occurred_at=occurred_at,
        event_id=[e.event_id for e in events],
        dimensions={
            "campaign_id": campaigns,
            "channel": [lower_case[c] for c in channels],
            "account_id": [e.account_id or None for e in events],
            "platform": [e.platform or None for e in events],
            "creative_id": [e.creative_id or None for e in events],
            "keyword": [e.keyword or None for e in events],
            "region": [e.region or None for e in events],
            "segment": [e.segment or None for e in events],
            "experiment_id": [e.experiment_id or None for e in events],
            "variant_id": [e.variant_id or None for e in events],
        },
        user_id=[e.user_id or None for e in events],
        micros=micros,
    )
    match topic:
        case Topic.CONVERSIONS:
            sure &= _conversion_columns(columns, events)
        case Topic.ENGAGEMENTS:
            sure &= _engagement_columns(columns, events)
        case Topic.SPEND:
            sure &= _spend_columns(columns, events)
            keys = [records[i].key for i in index.tolist()]
            sure &= np.array([key == c.encode() for key, c in zip(keys, campaigns, strict=True)], np.bool_)
    return columns, sure


def _record_times(records: Sequence[Any], index: Ints) -> Ints:
    times = np.array([record.timestamp for record in records], np.int64)
    return times if len(times) == len(index) else times[index]


def _kinds(columns: Columns, events: Sequence[Any]) -> Bools:
    columns.kind = [e.kind for e in events]
    refused = {kind for kind in set(columns.kind) if not _KIND.fullmatch(kind) or kind in RESERVED_KINDS}
    if not refused:
        return np.ones(len(events), np.bool_)
    return np.array([kind not in refused for kind in columns.kind], np.bool_)


def _conversion_columns(columns: Columns, events: Sequence[Any]) -> Bools:
    sure = _kinds(columns, events)
    columns.customer_type = [e.customer_type or None for e in events]
    if not set(columns.customer_type) <= _CUSTOMER_TYPES:
        sure &= np.array([c in _CUSTOMER_TYPES for c in columns.customer_type], np.bool_)
    clicked = [(i, e.clicked_at) for i, e in enumerate(events) if e.clicked_at is not None and e.clicked_at != ""]
    if clicked:
        sure[[i for i, _ in clicked]] &= epoch_ms([time for _, time in clicked])[1]
    return sure


def _engagement_columns(columns: Columns, events: Sequence[Any]) -> Bools:
    sure = _kinds(columns, events)
    columns.dwell_ms = integers([e.dwell_ms for e in events], ABSENT)
    columns.load_ms = integers([e.load_ms for e in events], ABSENT)
    columns.rating, exact = hundredths([e.rating for e in events], 100)
    return sure & exact


def _spend_columns(columns: Columns, events: Sequence[Any]) -> Bools:
    start, start_sure = epoch_ms([e.period_start for e in events])
    end, end_sure = epoch_ms([e.period_end for e in events])
    columns.period_start, columns.period_end = start // _MINUTE_MS, end // _MINUTE_MS
    columns.revision = integers([e.revision for e in events], 0)
    minutes = columns.period_end - columns.period_start
    whole = (start % _MINUTE_MS == 0) & (end % _MINUTE_MS == 0)
    sure: Bools = start_sure & end_sure & whole & (minutes > 0) & (minutes <= _MOST_MINUTES)
    return sure


def of_models(topic: Topic, events: Sequence[Event], index: Ints, records: Sequence[Any], exchange: Exchange) -> Columns:
    """Columns of events that the arbiter has taken."""
    columns = Columns(
        index=index,
        record_time=np.array([records[i].timestamp for i in index.tolist()], np.int64),
        occurred_at=np.array([to_epoch_ms(e.occurred_at) for e in events], np.int64),
        event_id=[e.event_id for e in events],
        dimensions={dimension: [getattr(e, dimension) for e in events] for dimension in DIMENSIONS},
        user_id=[e.user_id for e in events],
        micros=np.array([reporting_micros(e, exchange) for e in events], np.int64),
    )
    conversions = [e for e in events if isinstance(e, Conversion)]
    engagements = [e for e in events if isinstance(e, Engagement)]
    spend = [e for e in events if isinstance(e, Spend)]
    match topic:
        case Topic.CONVERSIONS:
            columns.kind = [e.kind for e in conversions]
            columns.customer_type = [e.customer_type for e in conversions]
        case Topic.ENGAGEMENTS:
            columns.kind = [e.kind for e in engagements]
            columns.dwell_ms = integers([e.dwell_ms for e in engagements], ABSENT)
            columns.load_ms = integers([e.load_ms for e in engagements], ABSENT)
            columns.rating = integers([e.rating for e in engagements], ABSENT)
        case Topic.SPEND:
            columns.period_start = np.array([to_epoch_ms(e.period_start) // _MINUTE_MS for e in spend], np.int64)
            columns.period_end = np.array([to_epoch_ms(e.period_end) // _MINUTE_MS for e in spend], np.int64)
            columns.revision = integers([e.revision for e in spend], 0)
    return columns


def joined(first: Columns, order: Ints, second: Columns | None = None) -> Columns:
    """The rows `order` of `first`, continued by `second`: a choice of rows, or two sets put in order. Columns that are empty stay so."""
    positions = order.tolist()

    def rows(a: Any, b: Any) -> Any:
        if isinstance(a, dict):
            return {name: rows(a[name], b[name] if b is not None else None) for name in a}
        if isinstance(a, np.ndarray):
            both = a if b is None else np.concatenate([a, b])
            return both[order] if len(both) else both
        both = a if b is None else a + b
        return [both[i] for i in positions] if both else both

    return Columns(
        **{f.name: rows(getattr(first, f.name), getattr(second, f.name) if second is not None else None) for f in fields(Columns)}
    )

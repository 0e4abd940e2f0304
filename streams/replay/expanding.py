"""Prepared rows as events: the times within a period, the ids, the JSON. Whole columns at a time.

A row that stands for `count` events of a period [start, end) makes them at the middles of `count` equal parts of it. These times are
made, not recorded; they are the same in every run.
"""

from __future__ import annotations

import string

import numpy as np
import polars as pl
from numpy.typing import NDArray

from streams.config import Topic
from streams.replay.mapping import EVENT, FILE, INTEGER_FIELDS, MONEY_FIELDS, NUMBER, RESERVED, Mapping
from streams.replay.mapping import ITEM as ITEM_WORD
from streams.replay.mapping import ROW as ROW_WORD
from streams.replay.preparing import COUNT, END, FIELD, NAMED, START, TAG, Prepared
from streams.replay.reading import ITEM, ROW

Ints = NDArray[np.int64]

#: Columns of a frame of events. AT is epoch ms, TOPIC the name behind the prefix, KEY and VALUE text.
TOPIC, AT, KEY, VALUE, ID = "topic", "at", "key", "value", "event_id"


def events(mapping: Mapping, prepared: Prepared, positions: Ints, shift_ms: int = 0) -> pl.DataFrame:
    """TOPIC, AT, KEY, VALUE, ID and ROW of the events at `positions` among all that the prepared rows make in their order.

    `shift_ms` is added to every time.
    """
    frame = prepared.frame
    counts = frame[COUNT].to_numpy()
    ends = np.cumsum(counts)
    row = np.searchsorted(ends, positions, side="right")
    number = positions - (ends[row] - counts[row])
    rows = frame[row].with_columns(pl.Series(NUMBER, number, dtype=pl.Int64))
    start, length = rows[START].to_numpy(), (rows[END] - rows[START]).to_numpy()
    if prepared.event.topic is Topic.SPEND:
        # A platform reports on a period when it is over.
        at = start + length
    elif prepared.event.count is not None:
        at = start + (2 * number + 1) * length // (2 * counts[row])
    else:
        at = start
    rows = rows.with_columns(pl.Series(AT, at + shift_ms, dtype=pl.Int64))
    return rows.select(
        pl.lit(prepared.event.topic.value).alias(TOPIC),
        AT,
        pl.col(FIELD + "campaign_id").alias(KEY),
        _value(mapping, prepared, rows, shift_ms).alias(VALUE),
        event_id(mapping, prepared).alias(ID),
        ROW,
    )


def newest(prepared: Prepared) -> int | None:
    """Time of the newest event that the rows make, epoch ms; None of no rows."""
    if prepared.frame.is_empty():
        return None
    if prepared.event.topic is Topic.SPEND:
        at = pl.col(END)
    elif prepared.event.count is not None:
        at = pl.col(START) + (2 * pl.col(COUNT) - 1) * (pl.col(END) - pl.col(START)) // (2 * pl.col(COUNT))
    else:
        at = pl.col(START)
    return int(prepared.frame.select(at.max()).item())


def event_id(mapping: Mapping, prepared: Prepared) -> pl.Expr:
    """The events' ids, by the template of the mapping. Needs the column NUMBER."""
    words = {
        FILE: pl.col(TAG),
        ROW_WORD: pl.col(ROW).cast(pl.String),
        EVENT: pl.lit(str(prepared.number + 1)),
        ITEM_WORD: pl.col(ITEM).cast(pl.String).fill_null("0"),
        NUMBER: pl.col(NUMBER).cast(pl.String),
    }
    parts: list[pl.Expr] = []
    for literal, name, _, _ in string.Formatter().parse(mapping.template(prepared.event)):
        if literal:
            parts.append(pl.lit(literal))
        if name is not None:
            parts.append(words[name] if name in RESERVED else pl.col(NAMED + name))
    return pl.concat_str(parts)


def _value(mapping: Mapping, prepared: Prepared, rows: pl.DataFrame, shift_ms: int) -> pl.Expr:
    """The JSON of each event. Fields that no row has are left out; null is the same as absent."""
    members = [event_id(mapping, prepared).alias("event_id"), pl.col(AT).alias("occurred_at")]
    if prepared.event.topic is Topic.SPEND:
        members += [(pl.col(START) + shift_ms).alias("period_start"), (pl.col(END) + shift_ms).alias("period_end")]
    for name in rows.columns:
        if name.startswith(FIELD) and rows[name].null_count() < rows.height:
            field = name.removeprefix(FIELD)
            value = pl.col(name)
            if field in MONEY_FIELDS:
                value = decimal_text(value)
            elif field in INTEGER_FIELDS:
                value = value.cast(pl.Int64)
            members.append(value.alias(field))
    return pl.struct(members).struct.json_encode()


def decimal_text(micros: pl.Expr) -> pl.Expr:
    """Micros as the decimal string of units: 2317348 -> "2.317348"."""
    fraction = (micros % 1_000_000).cast(pl.String).str.zfill(6)
    return pl.concat_str((micros // 1_000_000).cast(pl.String), pl.lit("."), fraction)

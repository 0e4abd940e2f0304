"""Columns from structs (fast, and says which rows it is sure of) and from models (slow, always sure), block by block."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.config import DIMENSIONS, Topic
from streams.events.fields import CONTROL_CHARACTER
from streams.events.models import KIND_PATTERN, RESERVED_KINDS, Engagement, Event, Spend
from streams.events.money import Exchange
from streams.events.parsing import reporting_micros
from streams.events.times import to_epoch_ms
from streams.ingest.coded import Coded, Numbering
from streams.ingest.columns import ABSENT, Columns
from streams.ingest.decode_numbers import hundredths, integers, own_micros, to_reporting
from streams.ingest.decode_structs import STRUCTS
from streams.ingest.decode_times import epoch_ms
from streams.ingest.dedupe import digests

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MINUTE_MS = 60_000
_MOST_MINUTES = 31 * 1_440
_KIND = re.compile(KIND_PATTERN)


def _kind_is_fine(kind: str | None) -> bool:
    return kind is not None and _KIND.fullmatch(kind) is not None and kind not in RESERVED_KINDS


def _campaign_is_fine(campaign: str | None) -> bool:
    return campaign is not None and CONTROL_CHARACTER.search(campaign) is None


#: What the structs cannot say of a text.
_JUDGES = {
    "campaign_id": _campaign_is_fine,
    "kind": _kind_is_fine,
    "customer_type": {None, "", "new", "returning"}.__contains__,
}


class ColumnBuilder:
    """Gathers the blocks of one batch. Strings are numbered over the whole batch, so that each different one is looked at once."""

    def __init__(self, topic: Topic, exchange: Exchange) -> None:
        self._topic = topic
        self._exchange = exchange
        self._money = STRUCTS[topic][1]
        names = [*DIMENSIONS, "user_id"]
        if topic in (Topic.CONVERSIONS, Topic.ENGAGEMENTS):
            names.append("kind")
        if topic is Topic.CONVERSIONS:
            names.append("customer_type")
        self._numbering = {name: Numbering(_JUDGES.get(name)) for name in names}
        #: Column -> its blocks so far.
        self._blocks: dict[str, list[NDArray[Any]]] = {}

    def add_structs(self, events: Sequence[Any], index: Ints, records: Sequence[Any]) -> Ints:
        """Add decoded structs; returns the positions of those that the arbiter must judge instead.

        `index` holds the position of each event's record in the batch, `records` these records.
        """
        occurred_at, sure = epoch_ms([e.occurred_at for e in events])
        micros, exact = own_micros([getattr(e, self._money) for e in events])
        to_reporting(micros, exact, [e.currency for e in events], self._exchange)
        sure &= exact
        block: dict[str, NDArray[Any]] = {"occurred_at": occurred_at, "micros": micros}
        for name, numbering in self._numbering.items():
            codes = block[name] = numbering.of(map(attrgetter(name), events), len(events))
            sure &= numbering.fine(codes)
        match self._topic:
            case Topic.CONVERSIONS:
                sure &= _clicked_at(events)
            case Topic.ENGAGEMENTS:
                sure &= _engagements(block, events)
            case Topic.SPEND:
                sure &= _periods(block, events)
                sure &= np.array([r.key == e.campaign_id.encode() for r, e in zip(records, events, strict=True)], np.bool_)
        block |= {"index": index, "record_time": _record_times(records), "event_id": digests([e.event_id for e in events])}
        if not sure.all():
            block = {name: column[sure] for name, column in block.items()}
        self._append(block)
        return index[~sure]

    def add_models(self, events: Sequence[Event], index: Ints, records: Sequence[Any]) -> None:
        """Add events that the arbiter has taken."""
        block: dict[str, NDArray[Any]] = {
            "index": index,
            "record_time": _record_times(records),
            "occurred_at": np.array([to_epoch_ms(e.occurred_at) for e in events], np.int64),
            "event_id": digests([e.event_id for e in events]),
            "micros": np.array([reporting_micros(e, self._exchange) for e in events], np.int64),
        }
        block |= {name: numbering.of(map(attrgetter(name), events), len(events)) for name, numbering in self._numbering.items()}
        match self._topic:
            case Topic.ENGAGEMENTS:
                engagements = [e for e in events if isinstance(e, Engagement)]
                block |= {n: integers([getattr(e, n) for e in engagements], ABSENT) for n in ("dwell_ms", "load_ms", "rating")}
            case Topic.SPEND:
                spend = [e for e in events if isinstance(e, Spend)]
                for name in ("period_start", "period_end"):
                    block[name] = np.array([to_epoch_ms(getattr(e, name)) // _MINUTE_MS for e in spend], np.int64)
                block["revision"] = integers([e.revision for e in spend], 0)
        self._append(block)

    def _append(self, block: dict[str, NDArray[Any]]) -> None:
        for name, column in block.items():
            self._blocks.setdefault(name, []).append(column)

    def columns(self) -> Columns:
        """Everything that was added, in offset order."""
        if not self._blocks:
            self.add_models([], np.empty(0, np.int64), [])
        whole: dict[str, Any] = {name: np.concatenate(blocks) for name, blocks in self._blocks.items()}
        for name, numbering in self._numbering.items():
            # Blank is absent.
            as_kept = _in_lower_case if name == "channel" else _absent_if_blank if "" in numbering else None
            whole[name] = numbering.coded(whole[name], as_kept)
        dimensions: dict[str, Coded] = {name: whole.pop(name) for name in DIMENSIONS}
        columns = Columns(dimensions=dimensions, **whole)
        in_order = bool((np.diff(columns.index) > 0).all())
        return columns if in_order else columns.rows(np.argsort(columns.index, kind="stable"))


def _absent_if_blank(value: str | None) -> str | None:
    return value or None


def _in_lower_case(value: str | None) -> str | None:
    return value.lower() if value else None


def _record_times(records: Sequence[Any]) -> Ints:
    return np.array([record.timestamp for record in records], np.int64)


def _clicked_at(events: Sequence[Any]) -> Bools:
    sure = np.ones(len(events), np.bool_)
    clicked = [(i, e.clicked_at) for i, e in enumerate(events) if e.clicked_at is not None and e.clicked_at != ""]
    if clicked:
        sure[[i for i, _ in clicked]] = epoch_ms([time for _, time in clicked])[1]
    return sure


def _engagements(block: dict[str, NDArray[Any]], events: Sequence[Any]) -> Bools:
    block["dwell_ms"] = integers([e.dwell_ms for e in events], ABSENT)
    block["load_ms"] = integers([e.load_ms for e in events], ABSENT)
    block["rating"], exact = hundredths([e.rating for e in events], 100)
    return exact


def _periods(block: dict[str, NDArray[Any]], events: Sequence[Any]) -> Bools:
    start, start_sure = epoch_ms([e.period_start for e in events])
    end, end_sure = epoch_ms([e.period_end for e in events])
    block["period_start"], block["period_end"] = start // _MINUTE_MS, end // _MINUTE_MS
    block["revision"] = integers([e.revision for e in events], 0)
    minutes = block["period_end"] - block["period_start"]
    whole = (start % _MINUTE_MS == 0) & (end % _MINUTE_MS == 0)
    sure: Bools = start_sure & end_sure & whole & (minutes > 0) & (minutes <= _MOST_MINUTES)
    return sure

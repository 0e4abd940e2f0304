"""Columns from scanned records (fast, and says which rows it is sure of) and from models (slow, always sure), block by block."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.config import DIMENSIONS, Topic
from streams.events.fields import LARGEST_INTEGER
from streams.events.models import DAY_MS, Engagement, Event, Spend
from streams.events.money import Exchange
from streams.events.parsing import reporting_micros
from streams.events.times import to_epoch_ms
from streams.ingest.coded import Coded
from streams.ingest.columns import ABSENT, Columns
from streams.ingest.decode_fields import CURRENCY, EVENT_ID, FIELDS, REQUIRED
from streams.ingest.decode_numbers import hundredths, integers, own_micros, to_reporting
from streams.ingest.decode_scan import ABSENT as NO_VALUE
from streams.ingest.decode_scan import ESCAPED, Span
from streams.ingest.decode_text import Numbering, check_lengths, text_of
from streams.ingest.decode_times import epoch_ms
from streams.ingest.dedupe import digests, digests_of_bytes
from streams.ingest.records import TIMESTAMP, Records

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MINUTE_MS = 60_000
_MOST_MINUTES = 31 * 1_440
_HIGHEST_RATING = 100


class ColumnBuilder:
    """Gathers the blocks of one batch. Strings are numbered over the whole batch, so that each different one is looked at once."""

    def __init__(self, topic: Topic, exchange: Exchange) -> None:
        self._topic = topic
        self._exchange = exchange
        self._fields = FIELDS[topic]
        self._numbering = {name: Numbering(f.longest, f.required, f.judge) for name, f in self._fields.numbered.items()}
        self._currencies = Numbering(CURRENCY.longest)
        #: Column -> its blocks so far.
        self._blocks: dict[str, list[NDArray[Any]]] = {}

    def add_scanned(self, spans: dict[str, Span], sure: Bools, first: int, records: Records) -> Ints:
        """Add a block of records; returns the positions of those that the arbiter must judge instead.

        `first` is the position of the first of these records in the batch; `sure` tells which of the spans mean something.
        """
        for name in REQUIRED & spans.keys():
            sure &= spans[name].form != NO_VALUE
        check_lengths(spans["event_id"], EVENT_ID.longest, EVENT_ID.required, sure)
        for name, field in self._fields.checked.items():
            check_lengths(spans[name], field.longest, field.required, sure)
        block: dict[str, NDArray[Any]] = {
            "occurred_at": epoch_ms(spans["occurred_at"], sure),
            "micros": own_micros(spans[self._fields.money], sure),
        }
        for name, numbering in self._numbering.items():
            block[name] = numbering.add(spans[name], sure)
        to_reporting(block["micros"], sure, self._currencies.coded(self._currencies.add(spans["currency"], sure)), self._exchange)
        match self._topic:
            case Topic.CONVERSIONS:
                epoch_ms(spans["clicked_at"], sure)
            case Topic.ENGAGEMENTS:
                block["dwell_ms"] = integers(spans["dwell_ms"], DAY_MS, ABSENT, sure)
                block["load_ms"] = integers(spans["load_ms"], DAY_MS, ABSENT, sure)
                block["rating"] = hundredths(spans["rating"], _HIGHEST_RATING, ABSENT, sure)
            case Topic.SPEND:
                _periods(block, spans, sure)
                self._check_keys(block["campaign_id"], records, sure)
        rows = np.flatnonzero(sure)
        block |= {"record_time": records.column(TIMESTAMP), "index": np.arange(first, first + len(records))}
        block = {name: column[rows] for name, column in block.items()}
        block["event_id"] = _digests(spans["event_id"], rows)
        self._append(block)
        return first + np.flatnonzero(~sure)

    def _check_keys(self, campaigns: Ints, records: Records, sure: Bools) -> None:
        for i in np.flatnonzero(sure).tolist():
            campaign = self._numbering["campaign_id"].value(int(campaigns[i]))
            sure[i] = campaign is not None and records[i].key == campaign.encode()

    def add_models(self, events: Sequence[Event], index: Ints, records: Records) -> None:
        """Add events that the arbiter has taken."""
        block: dict[str, NDArray[Any]] = {
            "index": index,
            "record_time": records.column(TIMESTAMP),
            "occurred_at": np.array([to_epoch_ms(e.occurred_at) for e in events], np.int64),
            "event_id": digests([e.event_id for e in events]),
            "micros": np.array([reporting_micros(e, self._exchange) for e in events], np.int64),
        }
        block |= {name: numbering.add_texts(map(attrgetter(name), events)) for name, numbering in self._numbering.items()}
        match self._topic:
            case Topic.ENGAGEMENTS:
                engagements = [e for e in events if isinstance(e, Engagement)]
                for name in ("dwell_ms", "load_ms", "rating"):
                    values = [getattr(e, name) for e in engagements]
                    block[name] = np.array([ABSENT if value is None else value for value in values], np.int64)
            case Topic.SPEND:
                spend = [e for e in events if isinstance(e, Spend)]
                for name in ("period_start", "period_end"):
                    block[name] = np.array([to_epoch_ms(getattr(e, name)) // _MINUTE_MS for e in spend], np.int64)
                block["revision"] = np.array([e.revision for e in spend], np.int64)
        self._append(block)

    def _append(self, block: dict[str, NDArray[Any]]) -> None:
        for name, column in block.items():
            self._blocks.setdefault(name, []).append(column)

    def columns(self) -> Columns:
        """Everything that was added, in offset order."""
        if not self._blocks:
            self.add_models([], np.empty(0, np.int64), Records.joined([]))
        whole: dict[str, Any] = {name: np.concatenate(blocks) for name, blocks in self._blocks.items()}
        for name, numbering in self._numbering.items():
            whole[name] = numbering.coded(whole[name], str.lower if name == "channel" else None)
        dimensions: dict[str, Coded] = {name: whole.pop(name) for name in DIMENSIONS}
        columns = Columns(dimensions=dimensions, **whole)
        in_order = bool((np.diff(columns.index) > 0).all())
        return columns if in_order else columns.rows(np.argsort(columns.index, kind="stable"))


def _digests(ids: Span, rows: Ints) -> NDArray[np.uint64]:
    found = [ids.written[start:stop] for start, stop in zip(ids.start[rows].tolist(), ids.stop[rows].tolist(), strict=True)]
    for i in np.flatnonzero(ids.form[rows] == ESCAPED).tolist():
        found[i] = text_of(found[i]).encode()
    return digests_of_bytes(found)


def _periods(block: dict[str, NDArray[Any]], spans: dict[str, Span], sure: Bools) -> None:
    start, end = epoch_ms(spans["period_start"], sure), epoch_ms(spans["period_end"], sure)
    block["period_start"], block["period_end"] = start // _MINUTE_MS, end // _MINUTE_MS
    block["revision"] = integers(spans["revision"], LARGEST_INTEGER, 0, sure)
    minutes = block["period_end"] - block["period_start"]
    sure &= (start % _MINUTE_MS == 0) & (end % _MINUTE_MS == 0) & (minutes > 0) & (minutes <= _MOST_MINUTES)

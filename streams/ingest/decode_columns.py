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
from streams.ingest.decode_fields import FIELDS, REQUIRED
from streams.ingest.decode_numbers import hundredths, integers, own_micros, to_reporting
from streams.ingest.decode_scan import ABSENT as NO_VALUE
from streams.ingest.decode_scan import ESCAPED, Span, Spans
from streams.ingest.decode_text import Numberings, check_lengths, text_of
from streams.ingest.decode_times import epoch_ms
from streams.ingest.dedupe import digests, digests_of_bytes
from streams.ingest.records import NOTHING, TIMESTAMP, Records
from streams.ingest.texts import Texts

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_MINUTE_MS = 60_000
_MOST_MINUTES = 31 * 1_440
_HIGHEST_RATING = 100


class ColumnBuilder:
    """Gathers the blocks of one batch of records, whose values lie in `buffer`."""

    def __init__(self, topic: Topic, exchange: Exchange, numberings: Numberings, buffer: bytes) -> None:
        self._topic = topic
        self._exchange = exchange
        self._fields = FIELDS[topic]
        self._numberings = numberings
        #: What texts that are kept as bytes lie in: first the records, then those that do not stand there as they are meant.
        self._buffers = [buffer]
        self._end = len(buffer)
        #: Column -> its blocks so far.
        self._blocks: dict[str, list[NDArray[Any]]] = {}

    def add_scanned(self, spans: Spans, sure: Bools, first: int, records: Records) -> Ints:
        """Add a block of records; returns the positions of those that the arbiter must judge instead.

        `first` is the position of the first of these records in the batch; `sure` tells which of the spans mean something.
        """
        for name in REQUIRED.intersection(spans.names):
            sure &= spans[name].form != NO_VALUE
        check_lengths(spans, self._fields.checked, sure)
        block: dict[str, NDArray[Any]] = {
            "occurred_at": epoch_ms(spans["occurred_at"], sure),
            "micros": own_micros(spans[self._fields.money], sure),
        }
        block |= self._numberings.add(spans, sure)
        to_reporting(block["micros"], sure, self._numberings.coded("currency", block.pop("currency")), self._exchange)
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
        block["user_start"], block["user_stop"] = self._places(spans["user_id"], rows)
        if len(rows) < len(sure):
            block = {name: column[rows] for name, column in block.items()}
        block["event_id"] = digests_of_bytes(self._texts(spans["event_id"], rows))
        self._append(block)
        return first + np.flatnonzero(~sure)

    def _check_keys(self, campaigns: Ints, records: Records, sure: Bools) -> None:
        for i in np.flatnonzero(sure).tolist():
            campaign = self._numberings.value("campaign_id", int(campaigns[i]))
            sure[i] = campaign is not None and records[i].key == campaign.encode()

    def _texts(self, texts: Span, rows: Ints) -> list[bytes]:
        """The texts of some records, as UTF-8."""
        written = self._buffers[0]
        found = [written[start:stop] for start, stop in zip(texts.start[rows].tolist(), texts.stop[rows].tolist(), strict=True)]
        for i in np.flatnonzero(texts.form[rows] == ESCAPED).tolist():
            found[i] = text_of(found[i]).encode()
        return found

    def _places(self, texts: Span, rows: Ints) -> tuple[Ints, Ints]:
        """Where the texts of a block lie, those of `rows`, each as it is meant."""
        present = texts.form != NO_VALUE
        start, stop = np.where(present, texts.start, NOTHING), np.where(present, texts.stop, NOTHING)
        escaped = rows[texts.form[rows] == ESCAPED]
        if len(escaped):
            start[escaped], stop[escaped] = self._keep(Texts.of([text.decode() for text in self._texts(texts, escaped)]))
        return start, stop

    def _keep(self, texts: Texts) -> tuple[Ints, Ints]:
        """Where texts lie that stand in no record so."""
        moved = np.where(texts.start == NOTHING, 0, self._end)
        self._buffers.append(texts.buffer)
        self._end += len(texts.buffer)
        return texts.start + moved, texts.stop + moved

    def add_models(self, events: Sequence[Event], index: Ints, records: Records) -> None:
        """Add events that the arbiter has taken."""
        block: dict[str, NDArray[Any]] = {
            "index": index,
            "record_time": records.column(TIMESTAMP),
            "occurred_at": np.array([to_epoch_ms(e.occurred_at) for e in events], np.int64),
            "event_id": digests([e.event_id for e in events]),
            "micros": np.array([reporting_micros(e, self._exchange) for e in events], np.int64),
        }
        block["user_start"], block["user_stop"] = self._keep(Texts.of([e.user_id for e in events]))
        for name in self._fields.columns:
            block[name] = self._numberings.add_texts(name, map(attrgetter(name), events))
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
        for name in self._fields.columns:
            whole[name] = self._numberings.coded(name, whole[name], str.lower if name == "channel" else None)
        dimensions: dict[str, Coded] = {name: whole.pop(name) for name in DIMENSIONS}
        buffer = self._buffers[0] if self._end == len(self._buffers[0]) else b"".join(self._buffers)
        users = Texts(buffer, whole.pop("user_start"), whole.pop("user_stop"))
        columns = Columns(dimensions=dimensions, user_id=users, **whole)
        in_order = bool((np.diff(columns.index) > 0).all())
        return columns if in_order else columns.rows(np.argsort(columns.index, kind="stable"))


def _periods(block: dict[str, NDArray[Any]], spans: Spans, sure: Bools) -> None:
    start, end = epoch_ms(spans["period_start"], sure), epoch_ms(spans["period_end"], sure)
    block["period_start"], block["period_end"] = start // _MINUTE_MS, end // _MINUTE_MS
    block["revision"] = integers(spans["revision"], LARGEST_INTEGER, 0, sure)
    minutes = block["period_end"] - block["period_start"]
    sure &= (start % _MINUTE_MS == 0) & (end % _MINUTE_MS == 0) & (minutes > 0) & (minutes <= _MOST_MINUTES)

"""Records of one topic to columns of valid events, and the refusals of the rest.

The way of a batch: the bytes of a block of records are scanned for the known fields; columns are made field by field; whatever either is
not sure of goes to the arbiter, `events.parsing.parse`, whose word is final. A property test holds the two together over hostile input.

What makes it fast: no object is made of a record or a value on the way. Compiled loops find the fields, read times and numbers where
they stand and number the strings, of which only the different ones are made; blocks are so small that they stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from streams.config import EVENT_TOPICS, Money, Topic
from streams.events.models import Event
from streams.events.money import Exchange
from streams.events.parsing import parse
from streams.events.refusal import Refusal
from streams.ingest.columns import Columns
from streams.ingest.decode_columns import ColumnBuilder
from streams.ingest.decode_fields import FIELDS
from streams.ingest.decode_scan import Scanner
from streams.ingest.decode_text import Numberings
from streams.ingest.records import VALUE_START, VALUE_STOP, Records

#: Records that fit into a processor's cache together.
_BLOCK = 2_048


class Decoder:
    """Decodes batches of one of the four topics of events, one after the other. What each comes to does not depend on those before it."""

    def __init__(self, topic: Topic, money: Money) -> None:
        if topic not in EVENT_TOPICS:
            raise ValueError(f"{topic.value}: not a topic of events; there are {', '.join(t.value for t in EVENT_TOPICS)}")
        self._topic = topic
        self._money = money
        self._exchange = Exchange(money)
        self._scanner = Scanner(FIELDS[topic].names)
        self._numberings = Numberings(FIELDS[topic].numbered)

    def decode(self, records: Records) -> tuple[Columns, list[tuple[int, Refusal]]]:
        """The valid events, in offset order, and (position, refusal) of all other records, in order of position.

        Future, lateness and duplicates are not judged here. Never raises for what a record holds.
        """
        try:
            return self._decoded(records)
        finally:
            self._numberings.end()

    def _decoded(self, records: Records) -> tuple[Columns, list[tuple[int, Refusal]]]:
        builder = ColumnBuilder(self._topic, self._exchange, self._numberings, records.buffer)
        buffer = np.frombuffer(records.buffer, np.uint8)
        unsure: list[int] = []
        for begin in range(0, len(records), _BLOCK):
            block = records[begin : begin + _BLOCK]
            spans, sure = self._scanner.scan(buffer, block.column(VALUE_START), block.column(VALUE_STOP))
            unsure += builder.add_scanned(spans, sure, begin, block).tolist()
        refused = self._arbitrate(records, unsure, builder) if unsure else []
        return builder.columns(), refused

    def _arbitrate(self, records: Records, positions: Sequence[int], builder: ColumnBuilder) -> list[tuple[int, Refusal]]:
        """Ask the arbiter about the records at `positions`: what it takes goes to the builder; returns what it refuses."""
        events: list[Event] = []
        index: list[int] = []
        refused: list[tuple[int, Refusal]] = []
        for position in positions:
            record = records[position]
            try:
                events.append(cast(Event, parse(self._topic, record.value, record.key, self._money)))
            except Refusal as refusal:
                refused.append((position, refusal.to_keep()))
            else:
                index.append(position)
        rows = np.array(index, np.int64)
        builder.add_models(events, rows, records.rows(rows))
        return refused

"""The first look at the files: what they will make, when it happened, and which rows cannot be used.

Every row is put to the same decoder that judges records from Kafka, so that nothing is sent only to be quarantined. Spend rows are
summed to reports here, because a report needs all its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl

from streams.config import EVENT_TOPICS, Money, Topic
from streams.ingest.decode import Decoder
from streams.ingest.records import Record, Records
from streams.replay.expanding import KEY, VALUE, events, newest
from streams.replay.mapping import Mapping, MappingError
from streams.replay.preparing import COUNT, END, START, ColumnError, Prepared, prepare
from streams.replay.reading import ITEM, ROW, Fault, Source, flatten
from streams.replay.reports import Reports, source_of

#: Faults that are kept to be shown; beyond it they are only counted.
KEPT_FAULTS = 1_000

#: (file number, event number) -> ROW and ITEM of the rows that the decoder refuses.
Refused = dict[tuple[int, int], pl.DataFrame]


class FileFault(NamedTuple):
    """A row that cannot be used."""

    path: Path
    row: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.row}: {self.what}"


@dataclass(slots=True)
class Survey:
    """What the files hold."""

    #: Rows read, broken ones included.
    rows: int = 0
    #: Events that will be sent, per topic.
    events: dict[Topic, int] = field(default_factory=lambda: dict.fromkeys(EVENT_TOPICS, 0))
    #: Times of the oldest and the newest event as recorded, epoch ms; None without events.
    oldest: int | None = None
    newest: int | None = None
    #: One entry per event of the mapping on the topic of spend.
    reports: list[Prepared] = field(default_factory=list)
    refused: Refused = field(default_factory=dict)
    #: How many rows cannot be used for everything that the mapping makes of them.
    faulty_rows: int = 0
    #: What is wrong with them, and how often something is; a row may have several faults. Only the first are kept.
    fault_count: int = 0
    faults: list[FileFault] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Events that will be sent."""
        return sum(self.events.values())

    def _add(self, prepared: Prepared) -> None:
        if prepared.frame.is_empty():
            return
        first = END if prepared.event.topic is Topic.SPEND else START
        oldest, last = int(prepared.frame.select(pl.col(first).min()).item()), newest(prepared)
        assert last is not None
        self.oldest = oldest if self.oldest is None else min(self.oldest, oldest)
        self.newest = last if self.newest is None else max(self.newest, last)
        self.events[prepared.event.topic] += int(prepared.frame[COUNT].sum())

    def _fault(self, path: Path, faults: Sequence[Fault]) -> None:
        """Take in the faults of a batch of rows of a file."""
        self.faulty_rows += len({fault.row for fault in faults})
        self.fault_count += len(faults)
        room = max(0, KEPT_FAULTS - len(self.faults))
        ordered = sorted(faults, key=lambda fault: fault.row)
        self.faults += [FileFault(path, fault.row, fault.what) for fault in ordered[:room]]


class Judge:
    """Puts prepared rows to the decoders of the streams workers."""

    def __init__(self, mapping: Mapping, money: Money) -> None:
        self._mapping = mapping
        self._decoders = {topic: Decoder(topic, money) for topic in EVENT_TOPICS}

    def refused(self, prepared: Prepared) -> list[tuple[int, str]]:
        """(position, what is wrong) of the rows whose events would be quarantined."""
        frame = prepared.frame
        if frame.is_empty():
            return []
        # One event speaks for all of a row: the last, whose id is the longest.
        last = np.cumsum(frame[COUNT].to_numpy()) - 1
        shown = events(self._mapping, prepared, last)
        records = Records.of(Record(i, 0, k.encode(), v.encode()) for i, (k, v) in enumerate(zip(shown[KEY], shown[VALUE], strict=True)))
        _, refusals = self._decoders[prepared.event.topic].decode(records)
        return [(position, refusal.detail) for position, refusal in refusals]


def survey(
    mapping_path: Path, mapping: Mapping, sources: Sequence[Source], money: Money, on_rows: Callable[[int], None] = lambda rows: None
) -> Survey:
    """Read all files once. `on_rows` is told of each batch's rows as they are done.

    Raises MappingError when a column that the mapping names is in no row of a file, ReadError when a file cannot be read.
    """
    found = Survey()
    judge = Judge(mapping, money)
    reports = {n: Reports(n, event) for n, event in enumerate(mapping.events) if event.topic is Topic.SPEND}
    for number, source in enumerate(sources):
        seen: dict[str, None] = {}
        for frame, faults in batches(mapping_path, mapping, source):
            found.rows += int(frame[ROW].n_unique()) + len(faults)
            seen.update(dict.fromkeys(frame.columns))
            prepared, unusable = prepare(mapping, source.tag, frame) if not frame.is_empty() else ([], [])
            refused: list[Fault] = []
            for each in prepared:
                if each.event.topic is Topic.SPEND:
                    reports[each.number].add(each, number)
                    continue
                refused += _judge(found, judge, each, number)
                found._add(without(each, found.refused.get((number, each.number))))
            found._fault(source.path, list(dict.fromkeys([*faults, *unusable, *refused])))
            on_rows(frame.height + len(faults))
        _check_columns(mapping_path, mapping, source, seen)
    for gathered in reports.values():
        report, mixed = gathered.result()
        for number, fault in mixed:
            found._fault(sources[number].path, [fault])
        if report is not None:
            wrong = judge.refused(report)
            rows, files = report.frame[ROW], source_of(report)
            for position, what in wrong:
                found._fault(sources[files[position]].path, [Fault(rows[position], what)])
            bad = pl.Series([position for position, _ in wrong], dtype=pl.Int64)
            kept = report.frame.with_row_index("\x00at").filter(~pl.col("\x00at").is_in(bad.implode())).drop("\x00at")
            report = Prepared(report.number, report.event, kept)
            found._add(report)
            found.reports.append(report)
    return found


def batches(mapping_path: Path, mapping: Mapping, source: Source) -> Iterator[tuple[pl.DataFrame, list[Fault]]]:
    """The file's rows, lists exploded, and the rows that could not be read. Raises ReadError and MappingError."""
    for batch in source.batches():
        try:
            yield flatten(batch.frame, mapping.explode), batch.faults
        except (ValueError, ColumnError) as error:
            raise MappingError(f"{mapping_path}: with {source.path}: {error}") from error


def without(prepared: Prepared, refused: pl.DataFrame | None) -> Prepared:
    """The prepared rows that are not among the refused."""
    if refused is None:
        return prepared
    return Prepared(
        prepared.number, prepared.event, prepared.frame.join(refused, on=[ROW, ITEM], how="anti", nulls_equal=True, maintain_order="left")
    )


def _judge(found: Survey, judge: Judge, prepared: Prepared, number: int) -> list[Fault]:
    """Note which of the prepared rows would be quarantined; what is wrong with each."""
    wrong = judge.refused(prepared)
    if not wrong:
        return []
    rows = prepared.frame[[position for position, _ in wrong]].select(ROW, ITEM)
    before = found.refused.get((number, prepared.number))
    found.refused[number, prepared.number] = rows if before is None else pl.concat([before, rows])
    return [Fault(row, what) for row, (_, what) in zip(rows[ROW], wrong, strict=True)]


def _check_columns(mapping_path: Path, mapping: Mapping, source: Source, seen: dict[str, None]) -> None:
    there = [name for name in seen if not name.startswith("\x00")]
    if not there:
        return
    for column, key in mapping.columns_named().items():
        if column not in seen and (column != mapping.explode):
            raise MappingError(f"{mapping_path}: {key}: {source.path} has no column {column!r}; it has {', '.join(there)}")

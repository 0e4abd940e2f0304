"""All events of a replay, one after the other, in pieces. The same files and the same mapping give the same sequence in every run, which
is what lets an interrupted replay go on where it stopped by a count alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from streams.config import Topic
from streams.replay.expanding import AT, events
from streams.replay.mapping import Mapping
from streams.replay.preparing import COUNT, START, Prepared, prepare
from streams.replay.reading import Source
from streams.replay.survey import Survey, batches, without

#: Events in a piece, about: some 10 MB of JSON.
PIECE = 20_000


def in_file_order(mapping_path: Path, mapping: Mapping, sources: Sequence[Source], found: Survey, shift_ms: int) -> Iterator[pl.DataFrame]:
    """The events as their rows stand in the files, spend reports last. Holds one block of a file at a time."""
    for prepared in _rows(mapping_path, mapping, sources, found):
        yield from _pieces(mapping, prepared, shift_ms)
    for report in found.reports:
        yield from _pieces(mapping, report, shift_ms)


def in_time_order(mapping_path: Path, mapping: Mapping, sources: Sequence[Source], found: Survey, shift_ms: int) -> Iterator[pl.DataFrame]:
    """The events by their time, for a replay at the speed of life. Holds the rows of all files, as columns, but not their events."""
    gathered: dict[int, list[pl.DataFrame]] = {}
    for prepared in (*_rows(mapping_path, mapping, sources, found), *found.reports):
        gathered.setdefault(prepared.number, []).append(prepared.frame)
    rows = [
        Prepared(number, mapping.events[number], pl.concat(frames, how="diagonal_relaxed").sort(START, maintain_order=True))
        for number, frames in sorted(gathered.items())
    ]
    waiting = pl.DataFrame()
    for first, end in _windows(rows):
        parts = [waiting] if waiting.height else []
        for each in rows:
            starts = each.frame[START].to_numpy()
            low, high = np.searchsorted(starts, [first, end]) if end is not None else (np.searchsorted(starts, first), len(starts))
            window = Prepared(each.number, each.event, each.frame[int(low) : int(high)])
            parts += list(_pieces(mapping, window, shift_ms))
        if not parts:
            continue
        waiting = pl.concat(parts).sort(AT, maintain_order=True)
        # What rows of later windows make cannot come before their start.
        ready = waiting.height if end is None else int(np.searchsorted(waiting[AT].to_numpy(), end + shift_ms))
        for at in range(0, ready, PIECE):
            yield waiting[at : min(at + PIECE, ready)]
        waiting = waiting[ready:]


def _rows(mapping_path: Path, mapping: Mapping, sources: Sequence[Source], found: Survey) -> Iterator[Prepared]:
    for number, source in enumerate(sources):
        for frame, _ in batches(mapping_path, mapping, source):
            if frame.is_empty():
                continue
            for prepared in prepare(mapping, source.tag, frame)[0]:
                if prepared.event.topic is not Topic.SPEND:
                    yield without(prepared, found.refused.get((number, prepared.number)))


def _pieces(mapping: Mapping, prepared: Prepared, shift_ms: int) -> Iterator[pl.DataFrame]:
    total = int(prepared.frame[COUNT].sum())
    for first in range(0, total, PIECE):
        yield events(mapping, prepared, np.arange(first, min(first + PIECE, total), dtype=np.int64), shift_ms)


def _windows(rows: Sequence[Prepared]) -> Iterator[tuple[int, int | None]]:
    """[start, end) of consecutive stretches of time whose rows make about a piece of events each; the last has no end."""
    if not rows:
        return
    starts = np.concatenate([each.frame[START].to_numpy() for each in rows])
    counts = np.concatenate([each.frame[COUNT].to_numpy() for each in rows])
    times, inverse = np.unique(starts, return_inverse=True)
    if not len(times):
        return
    made = np.cumsum(np.bincount(inverse, weights=counts).astype(np.int64))
    # A stretch begins at the first time whose events cross another multiple of a piece.
    first = np.flatnonzero(np.diff(made // PIECE, prepend=-1))
    first[0] = 0
    bounds = times[first].tolist()
    yield from zip(bounds, [*bounds[1:], None], strict=True)

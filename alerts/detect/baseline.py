"""What is normal for a row: its recent level and how much its counts scatter around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alerts.detect.history import MINUTE, Bools, Floats, History, Ints, Mask
from alerts.rules.model import BaselineParameters

#: Minutes per block; the level is the median of the blocks' means.
BLOCK = 5
#: Rows that are looked at together: their minutes fit into a processor's cache.
_ROWS = 1_024


@dataclass(slots=True)
class Baseline:
    """Per row of a history, for one measure."""

    #: Counts per second.
    level: Floats
    #: Extra squared coefficient of variation of a 1-minute count beyond Poisson's.
    dispersion: Floats
    #: Squared relative standard error of `level`.
    doubt: Floats
    #: Whether there is enough history to say so.
    ready: Bools

    def dispersion_of(self, seconds: int) -> Floats:
        """Dispersion to predict a window of `seconds` with, never too small for it.

        For a stationary rate whose autocorrelation is not negative, the excess variance of a window's mean falls with the window's
        length, and that of its sum per second rises (Cox and Lewis, The Statistical Analysis of Series of Events, 1966, chapter 4):
        a minute's value bounds longer windows as it stands, shorter ones times 60 / seconds. The level's own uncertainty is added,
        as in a predictive distribution.
        """
        return self.dispersion * max(1.0, 60.0 / seconds) + self.doubt


def _usable_minutes(history: History, measure: str, until: int, rows: slice) -> Floats:
    """Counts of whole minutes before `until`, right-aligned; NaN where a row was not there yet or its baseline must not learn."""
    minutes = history.minutes
    last = max(0, min(minutes.steps, (until - minutes.start) // minutes.step))
    counts = minutes.measures[measure][rows, :last].astype(np.float64, order="C")
    # A row begins with its first event; the silence before is not a level of zero.
    begun = np.where(counts.any(axis=1), (counts != 0).argmax(axis=1), last)
    counts[np.arange(last) < begun[:, None]] = np.nan
    if not history.masks:
        return counts
    starts = minutes.start + minutes.step * np.arange(last, dtype=np.int64)
    common = _masked(history.masks.get((), ()), measure, starts)
    if common is not None:
        counts, starts = counts[:, ~common], starts[~common]
    for index, row in enumerate(history.rows[rows]):
        masked = _masked(history.masks[row], measure, starts) if row and row in history.masks else None
        if masked is not None:
            kept = counts[index][~masked]
            counts[index] = np.nan
            if len(kept):
                counts[index, -len(kept) :] = kept
    return counts


def _masked(masks: Sequence[Mask], measure: str, starts: Ints) -> Bools | None:
    hits = [(starts + MINUTE > m.start) & (starts < m.end) for m in masks if m.measures is None or measure in m.measures]
    return np.logical_or.reduce(hits) if hits else None


def _block_means(minutes: Floats) -> Floats:
    """Means of consecutive blocks of minutes, counted from the right, shape (rows, blocks); NaN for blocks without a usable minute."""
    blocks = minutes.shape[1] // BLOCK
    cut = minutes[:, minutes.shape[1] - blocks * BLOCK :].reshape(len(minutes), blocks, BLOCK)
    known = ~np.isnan(cut)
    number = known.sum(axis=2)
    sums = np.where(known, cut, 0.0).sum(axis=2)
    means: Floats = np.where(number > 0, sums / np.maximum(number, 1), np.nan)
    return means


def _nanmedian(values: Floats) -> Floats:
    """Median per row over the values that are there, NaN where none is; without numpy's warnings and its slow path."""
    ordered = np.sort(values, axis=1)  # NaN goes last
    number = (~np.isnan(values)).sum(axis=1)
    low = np.take_along_axis(ordered, np.maximum((number - 1) // 2, 0)[:, None], axis=1)[:, 0]
    high = np.take_along_axis(ordered, np.minimum(number // 2, values.shape[1] - 1)[:, None], axis=1)[:, 0]
    result: Floats = np.where(number > 0, (low + high) / 2, np.nan)
    return result


def _excess(minutes: Floats) -> Floats:
    """Method-of-moments dispersion: (variance - mean) / mean^2 of 1-minute counts, around a level that may drift.

    Residuals are taken against the mean of 15 minutes, so that a daily rhythm does not count as scatter (moment estimator of Anscombe,
    1949, pooled over the pieces).
    """
    piece = 3 * BLOCK
    pieces = minutes.shape[1] // piece
    if not pieces:
        return np.full(len(minutes), np.nan)
    cut = minutes[:, minutes.shape[1] - pieces * piece :].reshape(len(minutes), pieces, piece)
    known = ~np.isnan(cut)
    number = known.sum(axis=2)
    filled = np.where(known, cut, 0.0)
    mean = filled.sum(axis=2) / np.maximum(number, 1)
    squares = np.where(known, (cut - mean[:, :, None]) ** 2, 0.0).sum(axis=2)
    free = np.maximum(number - 1, 0)
    # Each piece says what it knows about the same dispersion; weighted by its degrees of freedom.
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where((free > 0) & (mean > 0), (squares / np.maximum(free, 1) - mean) / mean**2, 0.0)
        weight = np.where((free > 0) & (mean > 0), free, 0)
        result: Floats = (each * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1)
    return result


def baseline(history: History, measure: str, parameters: BaselineParameters) -> Baseline:
    """Level and dispersion of every row, from complete minutes that are not part of a known incident.

    The level is a median of means (Nemirovsky and Yudin, 1983) over the newest usable minutes, so that a burst of a few
    minutes does not move it, and it follows a daily rhythm. The newest `gap_minutes` are left out, since a fault that has just begun
    must not be learned. Rows with fewer than `min_minutes` usable minutes are not `ready`.
    """
    until, rows = history.end - parameters.gap_minutes * MINUTE, len(history.rows)
    parts = [
        _of_minutes(_usable_minutes(history, measure, until, slice(first, first + _ROWS)), parameters)
        for first in range(0, max(rows, 1), _ROWS)
    ]
    return Baseline(
        np.concatenate([part.level for part in parts]),
        np.concatenate([part.dispersion for part in parts]),
        np.concatenate([part.doubt for part in parts]),
        np.concatenate([part.ready for part in parts]),
    )


def _of_minutes(minutes: Floats, parameters: BaselineParameters) -> Baseline:
    rows = len(minutes)
    if minutes.shape[1] < BLOCK:
        nothing = np.zeros(rows)
        return Baseline(nothing, nothing, nothing, np.zeros(rows, np.bool_))
    number = (~np.isnan(minutes)).sum(axis=1)
    recent = minutes[:, -parameters.level_minutes :]
    per_minute = np.nan_to_num(_nanmedian(_block_means(recent)))
    used = np.maximum((~np.isnan(recent)).sum(axis=1), 1)
    dispersion = np.maximum(np.nan_to_num(_excess(minutes)), parameters.min_dispersion)
    # The variance of a median of means is about pi / 2 times that of the mean.
    doubt = np.pi / 2 * (1.0 / np.maximum(per_minute, 1e-9) + dispersion) / used
    return Baseline(per_minute / 60.0, dispersion, doubt, (number >= parameters.min_minutes) & (per_minute > 0))

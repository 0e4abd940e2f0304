"""What time a question is about, and the bounds that the tables can answer it for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from streams.api.query import BadQuery
from streams.api.times import LAST_MS, round_up, write_length, write_time
from streams.config import Settings
from streams.tables.reader import Books, TableReader

#: Points of a series that are answered at once.
MAX_POINTS = 5_000

_DAY_MS = 86_400_000
#: A spend report may cover so much of the time ahead.
_LONGEST_AHEAD = 31 * _DAY_MS


@dataclass(frozen=True, slots=True)
class Between:
    """[start, end), epoch ms."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Last:
    """The last `length` ms, up to now rounded up to the alignment."""

    length: int


Span = Between | Last


def span_of(start: int | None, end: int | None, length: int | None) -> Span:
    """What time is asked for: from and to together, or a window. BadQuery when it is neither or both."""
    if length is not None and start is None and end is None:
        return Last(length)
    if length is None and start is not None and end is not None:
        return Between(start, end)
    raise BadQuery("from and to, or window: one of the two is needed", "for example window=5m")


def bounds(span: Span, reader: TableReader, books: Books, settings: Settings, now: int, step: int | None = None) -> tuple[int, int]:
    """[start, end) in epoch ms, aligned to the finest pane that is kept; for a series also a whole number of steps."""
    coarsest = settings.streams.ladder[-1]
    longest = (coarsest.keep + 2 * coarsest.size) * 1_000 + _LONGEST_AHEAD
    if isinstance(span, Last):
        if span.length > longest:
            raise BadQuery(f"nothing is kept for {write_length(span.length)}", f"the longest window is {write_length(longest)}")
        finest = settings.streams.ladder[0].size * 1_000
        alignment = reader.alignment(round_up(now, finest) - span.length, books)
        if span.length % alignment:
            raise BadQuery(
                f"a window of {write_length(span.length)} is not a multiple of {write_length(alignment)}, the finest step kept for it",
                f"window={write_length(round_up(span.length, alignment))} can be answered",
            )
        _check_step(span.length, alignment, step)
        end = round_up(now, math.lcm(alignment, step or 1))
        return end - span.length, end
    start, end = span.start, span.end
    if start >= end:
        raise BadQuery(f"from ({write_time(start)}) must be before to ({write_time(end)})")
    if end - start > longest:
        apart = f"{(end - start) // _DAY_MS} days" if end - start > _DAY_MS else write_length(end - start)
        raise BadQuery(f"from and to are {apart} apart", f"the longest window is {write_length(longest)}")
    alignment = reader.alignment(start, books)
    if start % alignment or end % alignment:
        low, high = start - start % alignment, min(round_up(end, alignment), LAST_MS)
        raise BadQuery(
            f"from and to must be multiples of {write_length(alignment)} (in UTC), the finest step kept for this range",
            f"from={write_time(low)}&to={write_time(high)} can be answered",
        )
    _check_step(end - start, alignment, step)
    return start, end


def _check_step(length: int, alignment: int, step: int | None) -> None:
    if step is None:
        return
    if step % alignment:
        better = write_length(round_up(step, alignment))
        raise BadQuery(f"step must be a multiple of {write_length(alignment)}, the finest kept for this range", f"step={better} is one")
    if length % step:
        raise BadQuery(f"the range ({write_length(length)}) must be a whole number of steps ({write_length(step)})")
    if length // step > MAX_POINTS:
        least = round_up(-(-length // MAX_POINTS), alignment)
        raise BadQuery(
            f"{length // step} points are asked for, and at most {MAX_POINTS} are answered",
            f"take steps of {write_length(least)} or longer",
        )

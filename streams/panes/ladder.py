"""The ladder of panes: which windows an event lands in, how long they are kept, and which panes make up a window.

Everything is judged by the records' own time, never by a clock, so that a replay of the log gives the same tables. All times are epoch
ms, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streams.config import Pane

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Level:
    """One step of the ladder."""

    #: Length of its panes, ms.
    size: int
    #: How long a pane stays after its end, ms.
    keep: int

    def kept(self, start: int, record_time: int) -> bool:
        """Whether the pane beginning at `start` is still kept when records of `record_time` have been read."""
        return start + self.size > record_time - self.keep


class Ladder:
    """The levels, finest first."""

    def __init__(self, panes: Sequence[Pane]) -> None:
        self.levels = tuple(Level(pane.size * 1000, pane.keep * 1000) for pane in panes)

    @property
    def retention(self) -> int:
        """Age in ms above which an event is too late for every pane."""
        return self.levels[-1].keep

    def finest_kept(self, start: int, record_time: int) -> Level | None:
        """The finest level that still has the pane around `start`; None when even the coarsest let it go."""
        for level in self.levels:
            if level.kept(start - start % level.size, record_time):
                return level
        return None

    def cover(self, start: int, end: int, finest: Level) -> Iterator[tuple[Level, int]]:
        """The fewest panes, none finer than `finest`, that make up [start, end); both must be multiples of `finest.size`."""
        usable = [level for level in reversed(self.levels) if level.size >= finest.size]
        while start < end:
            level = next(level for level in usable if start % level.size == 0 and start + level.size <= end)
            yield level, start
            start += level.size

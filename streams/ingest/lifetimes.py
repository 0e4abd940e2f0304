"""How long the keys of a partition live if nobody deletes them: a backstop, should its worker be gone for good."""

from __future__ import annotations

from collections.abc import Iterable

from streams.config import Settings
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.kept import pane_named
from streams.tables.opentables import PaneId
from streams.tables.store import PartitionStore

#: Seconds that a key stays beyond its retention: more than the 31 days that a spend report may reach ahead.
_ABANDONED_AFTER = 35 * 86_400
#: Kinds of keys that live for so long, beside those of panes.
_DATED = ("rows", "seen", "reports")


def lifetime(settings: Settings) -> int:
    """Seconds from its last being written to the end of a key."""
    return Ladder(settings.streams.ladder).retention // 1000 + _ABANDONED_AFTER


async def prolong(names: Iterable[str], settings: Settings, store: PartitionStore) -> None:
    """Have keys, by their names behind the tag, live as long from now on: they were written when less was to be kept.

    With the hash of a pane go its sketches. What has no end gets none. Redis errors pass through.
    """
    keys: list[str] = []
    for name in names:
        pane = pane_named(name)
        if pane is not None:
            keys += store.keys_of(pane)
        elif name.partition(":")[0] in _DATED:
            keys.append(store.keys.tag + name)
    await store.expire(keys, lifetime(settings))


def days_of(panes: Iterable[PaneId], record_time: int, ladder: Ladder) -> set[int]:
    """UTC days, counted from the epoch, of which there may be rows and reports when records of `record_time` (epoch ms) were read.

    Days of `panes`, and all that the ladder keeps: rows outlive panes that were lost. A report has been added to panes of every day of its
    period, which may reach ahead.
    """
    kept = range((record_time - ladder.retention) // DAY_MS - 2, (record_time // 1000 + _ABANDONED_AFTER) * 1000 // DAY_MS + 1)
    return {day for size, start in panes for day in range(start // DAY_MS, (start + size - 1) // DAY_MS + 1)} | set(kept)

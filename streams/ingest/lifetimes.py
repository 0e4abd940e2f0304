"""How long the keys of a partition live if nobody deletes them: a backstop, should its worker be gone for good."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from streams.config import Settings, Topic
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.keys import KINDS
from streams.tables.opentables import PaneId
from streams.tables.store import PartitionStore

#: Seconds that a key stays beyond its retention: more than the 31 days that a spend report may reach ahead.
_ABANDONED_AFTER = 35 * 86_400


def lifetime(settings: Settings) -> int:
    """Seconds from its last being written to the end of a key."""
    return Ladder(settings.streams.ladder).retention // 1000 + _ABANDONED_AFTER


async def prolong(topic: Topic, settings: Settings, store: PartitionStore) -> None:
    """Have what is stored live as long from now on: it was written when less was to be kept. Redis errors pass through."""
    panes = await store.known_panes()
    of_days = [store.keys.rows(cube, day) for day in days_of(panes) for cube in (*settings.all_cubes, KINDS)]
    if topic is Topic.SPEND:
        of_days += [store.keys.reports(day) for day in days_of(panes)]
    await store.expire(chain(of_days, chain.from_iterable(map(store.keys_of, panes))), lifetime(settings))


def days_of(panes: Iterable[PaneId]) -> set[int]:
    """UTC days, counted from the epoch, of which panes hold something. A report has been added to panes of every day of its period."""
    return {day for size, start in panes for day in range(start // DAY_MS, (start + size - 1) // DAY_MS + 1)}

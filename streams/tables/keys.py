"""Names of the Redis keys. Everything of one topic-partition shares a hash tag, so that one script may write it on a cluster too.

| key behind the tag | type | content |
|---|---|---|
| `meta` | hash | offsets, ledger, watermark: see `Meta` in store.py |
| `panes` | sorted set | `SIZE:START` of every kept pane, scored by the offset that last touched it |
| `pane:SIZE:START` | hash | `CUBE/CHUNK` -> the exact measures of 128 rows (chunks.py) |
| `SKETCH:SIZE:START:CUBE` | string | appended sketch entries (`reach`, `dwell`, `load`) |
| `rows:CUBE:DAY` | string | row keys in the order of their codes; the codes of a pane are those of its UTC day |
| `seen:BUCKET`, `seen:BUCKET:1`, ... | string | appended digests of applied event ids with their record times; parts of 4 MiB (dedupe.py) |
| `reports:DAY` | hash | spend reports that end on that day, by identity |
| `registry` | hash | campaign_id -> campaign (the campaigns topic only) |
| `notes` | hash | what broke the continuity of log and tables, by kind (continuity.py) |
| `settings` | hash | settings that the tables were last written with (written_with.py) |
| `kept` | hash | the lengths of the keys that no index lists, and of the index; the size of each pane (kept.py) |

The tables can be built anew from the log beside the ones in use (generations.py): those of generation 1, 2, ... have `NAMESPACE~1`,
`NAMESPACE~2`, ... where the first ones have `NAMESPACE`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from streams.config import Topic

Item = TypeVar("Item")
#: A Redis command with its arguments.
Command = tuple[str | bytes | int, ...]
#: Keys, members or fields that one command names: Lua takes no more than some thousands of arguments at once.
AT_ONCE = 500
#: Which sketches the events of a topic can fill.
SKETCHES_OF = {
    Topic.CLICKS: ("reach",),
    Topic.CONVERSIONS: ("reach",),
    Topic.ENGAGEMENTS: ("reach", "dwell", "load"),
    Topic.SPEND: (),
    Topic.CAMPAIGNS: (),
}
#: Name under which the event kinds of a day get codes, beside the cubes.
KINDS = "#kinds"
#: What the names of panes' hashes begin with.
PANE = "pane"


@dataclass(frozen=True, slots=True)
class PartitionKeys:
    """The keys of one topic-partition."""

    namespace: str
    topic: str
    partition: int

    @property
    def sketches(self) -> tuple[str, ...]:
        """Sketches that this partition may hold."""
        return SKETCHES_OF[Topic(self.topic.rpartition(".")[2])]

    @property
    def tag(self) -> str:
        """Common start of all keys."""
        return f"{self.namespace}:{{{self.topic}:{self.partition}}}:"

    def meta(self) -> str:
        """Bookkeeping."""
        return self.tag + "meta"

    def panes(self) -> str:
        """Index of the panes that are kept."""
        return self.tag + "panes"

    def pane(self, size: int, start: int) -> str:
        """The exact measures of one pane; `size` and `start` in ms."""
        return f"{self.tag}{PANE}:{pane_name(size, start)}"

    def sketch(self, sketch: str, size: int, start: int, cube: str) -> str:
        """One sketch of one cube in one pane; `size` and `start` in ms."""
        return f"{self.tag}{sketch}:{pane_name(size, start)}:{cube}"

    def pane_sketches(self, size: int, start: int, cubes: Iterable[str]) -> list[str]:
        """Every sketch that a pane may have."""
        return [self.sketch(sketch, size, start, cube) for sketch in self.sketches for cube in cubes]

    def rows(self, cube: str, day: int) -> str:
        """Row keys of a cube on a UTC day, counted from the epoch."""
        return f"{self.tag}rows:{cube}:{day}"

    def seen(self, bucket: int, part: int = 0) -> str:
        """Ids applied in five minutes of the dedupe horizon, or a further part of them."""
        return f"{self.tag}seen:{bucket}:{part}" if part else f"{self.tag}seen:{bucket}"

    def reports(self, day: int) -> str:
        """Spend reports that end on a UTC day, counted from the epoch."""
        return f"{self.tag}reports:{day}"

    def notes(self) -> str:
        """What broke the continuity of log and tables."""
        return self.tag + "notes"

    def settings(self) -> str:
        """Settings that the tables were last written with."""
        return self.tag + "settings"

    def kept(self) -> str:
        """Lengths of keys."""
        return self.tag + "kept"

    def behind_tag(self, key: str) -> str:
        """What tells a key from the others of the partition."""
        return key.removeprefix(self.tag)

    def registry(self) -> str:
        """Campaigns of the registry."""
        return self.tag + "registry"


def batched(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """The items, so many at a time, as for commands that name AT_ONCE of them."""
    left = iter(items)
    while some := tuple(islice(left, size)):
        yield some


def pane_name(size: int, start: int) -> str:
    """A pane in the names of keys and in the index of panes; `size` and `start` in ms."""
    return f"{size // 1000}:{start // 1000}"


def pane_of(name: str) -> tuple[int, int]:
    """The pane that is named so: its size and start in ms."""
    size, _, start = name.partition(":")
    return int(size) * 1000, int(start) * 1000


def partitions_key(namespace: str) -> str:
    """Set of `TOPIC:PARTITION` that workers have ever owned."""
    return f"{namespace}:partitions"


def alerts_key(namespace: str, name: str) -> str:
    """A key of the alerts process; all share one hash tag."""
    return f"{namespace}:{{alerts}}:{name}"

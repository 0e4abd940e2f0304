"""How long a partition's keys are, as its owner leaves them, kept in a key of their own: what tells that Redis has lost one of them. Pure.

Redis may lose single keys, by an eviction policy or because somebody deleted them, and whoever goes on would number rows anew, or take
repeats for new events. A pane has very many keys, and one entry for all of them: the fields of its hash and the bytes of its sketches, over
the cubes of the settings. Its owner adds what it writes, so that a key which is lost and written anew stays missing from the sum.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from streams.ingest.dedupe import BUCKET_MS
from streams.panes.ladder import DAY_MS
from streams.tables.keys import AT_ONCE, PANE, Command, PartitionKeys, batched, pane_of

#: The entry that is always there, so that a lost key is told from one without entries.
ALWAYS = "form"
#: The entry that names the cubes whose sketches are in the sizes of panes.
CUBES = "cubes"
#: How Redis is asked for the length of a key, by how its name begins behind the tag.
_COMMANDS = {"reports": "HLEN", "registry": "HLEN", "panes": "ZCARD", PANE: "HLEN"}
#: Keys that a message names.
_NAMED = 5


class Kept:
    """The lengths that changed since they were last written: bytes of strings, fields of hashes, members of the index."""

    def __init__(self, keys: PartitionKeys) -> None:
        self._keys = keys
        self._lengths: dict[str, int] = {}
        self._more: dict[str, int] = {}
        self._gone: set[str] = set()

    def is_now(self, key: str, length: int) -> None:
        """A key has that length now."""
        self._lengths[self._keys.behind_tag(key)] = length

    def has_more(self, key: str, length: int) -> None:
        """A key, whose length need not be known, is so much longer."""
        name = self._keys.behind_tag(key)
        self._more[name] = self._more.get(name, 0) + length

    def are_gone(self, keys: Iterable[str]) -> None:
        """Keys were deleted."""
        for key in keys:
            name = self._keys.behind_tag(key)
            self._lengths.pop(name, None)
            self._more.pop(name, None)
            self._gone.add(name)

    def take_commands(self) -> list[Command]:
        """Commands that write what changed since the last call."""
        key = self._keys.kept()
        commands: list[Command] = [("HDEL", key, *names) for names in batched(sorted(self._gone), AT_ONCE)]
        commands += _set(key, self._lengths)
        commands += [("HINCRBY", key, name, more) for name, more in self._more.items() if more]
        self._lengths, self._more, self._gone = {}, {}, set()
        return commands


def written(keys: PartitionKeys, lengths: Mapping[str, int], form: int, cubes: Iterable[str]) -> list[Command]:
    """Commands that write all of it anew: name behind the tag -> length; `form` and `cubes` are those of the tables."""
    entries: dict[str, int | str] = {ALWAYS: form, CUBES: named(cubes), **{name: length for name, length in lengths.items() if length}}
    return [("DEL", keys.kept()), *_set(keys.kept(), entries)]


def named(cubes: Iterable[str]) -> str:
    """Cubes, in whatever order, as an entry."""
    return " ".join(sorted(cubes))


def _set(key: str, entries: Mapping[str, int | str]) -> list[Command]:
    return [("HSET", key, *(each for entry in some for each in entry)) for some in batched(entries.items(), AT_ONCE)]


def asked(keys: PartitionKeys, name: str) -> tuple[str, str]:
    """The command that asks Redis for the length of the key of that name behind the tag."""
    return _COMMANDS.get(name.partition(":")[0], "STRLEN"), keys.tag + name


def pane_named(name: str) -> tuple[int, int] | None:
    """The pane whose size the entry of that name is; None for the length of a single key."""
    kind, _, rest = name.partition(":")
    return pane_of(rest) if kind == PANE else None


def in_words(names: Collection[str]) -> str:
    """Lost keys, the first of them by name."""
    return ", ".join(sorted(names)[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


@dataclass(frozen=True, slots=True)
class Lengths:
    """What is kept, as read."""

    #: Name behind the tag -> length, of single keys.
    single: dict[str, int]
    #: Those whose sizes are kept, and over which cubes these are; that may not be those of the settings.
    panes: list[tuple[int, int]]
    cubes: tuple[str, ...]

    def in_turn(self, turn: int, turns: int) -> list[tuple[int, int]]:
        """The panes that are looked at in this turn: by what they are, as panes come and go."""
        return [(size, start) for size, start in self.panes if start // size % turns == turn % turns]


def parse(stored: Mapping[bytes, bytes], since: int) -> Lengths | None:
    """The entries for what holds something from `since` (epoch ms) on: Redis itself lets go of what is older.

    None if it is not what an owner leaves behind: the key was lost, though its owner may have written to it since.
    """
    if ALWAYS.encode() not in stored:
        return None
    single: dict[str, int] = {}
    panes: list[tuple[int, int]] = []
    for name in key_names(name.decode() for name in stored):
        pane = pane_named(name)
        if pane is not None and pane[1] >= since:
            panes.append(pane)
        elif pane is None and _until(name) > since:
            single[name] = int(stored[name.encode()])
    return Lengths(single, panes, tuple(stored.get(CUBES.encode(), b"").decode().split()))


def key_names(stored: Iterable[str]) -> list[str]:
    """Names behind the tag of the keys that the entries are about."""
    return [name for name in stored if name not in (ALWAYS, CUBES)]


def _until(name: str) -> float:
    """Epoch ms up to which a single key of that name may hold something."""
    kind, _, rest = name.partition(":")
    match kind:
        case "rows":
            return (int(rest.rpartition(":")[2]) + 1) * DAY_MS
        case "reports":
            return (int(rest) + 1) * DAY_MS
        case "seen":
            return (int(rest.partition(":")[0]) + 1) * BUCKET_MS
    return float("inf")

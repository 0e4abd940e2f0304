"""Keys of a partition's tables that Redis has lost: found when it is claimed, and counted anew or gone on without."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from streams.config import Settings, Topic
from streams.ingest.continuity import Break, Finding, LogState, noted
from streams.ingest.dedupe import Seen
from streams.ingest.lifetimes import days_of
from streams.panes.ladder import DAY_MS, Ladder
from streams.tables.kept import in_words, pane_named
from streams.tables.keys import KINDS, Command, pane_name
from streams.tables.meta import FORMAT, WITH_LENGTHS, Meta
from streams.tables.opentables import PaneId
from streams.tables.store import PartitionStore

#: Behind the tag: the index of panes, and the key with the lengths of the others.
_INDEX, _LENGTHS = "panes", "kept"


async def only_whole(store: PartitionStore, meta: Meta, state: LogState, now: int, since: int) -> tuple[Meta, list[Finding]]:
    """Redis may have dropped single keys: by an eviction policy, or because somebody deleted them. What is from before `since` (epoch ms)
    is not looked for: Redis itself lets go of it.

    Tables whose bookkeeping is gone would count what they hold once more. Where keys are gone others may be, so that all is counted anew
    if the log still has it, and else goes on without them.
    """
    if not meta.record_time and (await store.lengths([_INDEX]))[_INDEX]:
        detail = f"the bookkeeping of the tables is gone from Redis and their panes are not; counting anew from offset {state.earliest}"
        return await count_anew(store, meta, state, Finding(Break.TABLES_FELL_BACK, 0, detail), now)
    lost = await store.lost_keys(since) if meta.record_time and meta.format >= WITH_LENGTHS else []
    # Without the lengths nobody knows whether the index is whole.
    listed_again = bool({_INDEX, _LENGTHS} & set(lost)) and await _list_again(store, meta)
    if listed_again:
        lost = await store.lost_keys(since)
    gone = await store.lost_panes(since)
    hashes = {store.keys.behind_tag(store.keys.pane(*pane)) for pane in gone}
    lost = [name for name in lost if name not in hashes]
    if not gone and not lost:
        if not listed_again:
            return meta, []
        return meta, [Finding(Break.TABLES_FELL_BACK, 0, "the list of the tables' panes was gone from Redis; it was made anew")]
    parts = [f"{len(gone)} panes of the tables are gone from Redis"] if gone else []
    parts += [f"keys of the tables are not as they were left in Redis: {in_words(lost)}"] if lost else []
    what = ", and ".join(parts)
    if state.earliest <= meta.start_offset and meta.topic_id in ("", state.topic_id) and not await _hold_more_than_log(store):
        finding = Finding(Break.TABLES_FELL_BACK, meta.read, f"{what}; counting anew from offset {state.earliest}")
        return await count_anew(store, meta, state, finding, now)
    detail = f"{what}, and the log has not all that they held: it is missing; `campaignwatch rebuild` counts what the log has"
    finding = Finding(Break.TABLES_FELL_BACK, 0, detail)
    commands = store.unlisted(gone)
    if lost:
        commands += await _without(store, lost, set(await store.known_panes()) - set(gone))
    # It is written anew as things are then. That there is nothing is said, lest it be taken for lost if nobody gets that far.
    commands += store.no_lengths()
    commands += [("HSET", store.keys.notes(), kind, packed) for kind, packed in noted([finding], await store.notes(), now).items()]
    await store.apply(meta.applied_offset, meta, commands)
    return meta, [finding]


async def _list_again(store: PartitionStore, meta: Meta) -> bool:
    """List the panes that Redis has; whether there are any that were not listed."""
    if (await store.lengths([_INDEX]))[_INDEX] < 0:
        await store.apply(meta.applied_offset, meta, [("UNLINK", store.keys.panes())])
    found = await store.unlisted_panes()
    commands: list[Command] = [("ZADD", store.keys.panes(), max(0, meta.applied_offset), pane_name(*pane)) for pane in found]
    if found:
        await store.apply(meta.applied_offset, meta, commands)
    return bool(found)


async def _without(store: PartitionStore, lost: Sequence[str], panes: Collection[PaneId]) -> list[Command]:
    """Commands that leave nothing of which the lost keys were a part: rows of which nobody knows whose they are."""
    commands: list[Command] = []
    without_rows: dict[int, set[str]] = {}
    for name in lost:
        kind, _, rest = name.partition(":")
        if kind == "rows":
            cube, _, day = rest.rpartition(":")
            without_rows.setdefault(int(day), set()).add(cube)
            commands.append(("UNLINK", store.keys.rows(cube, int(day))))
        if kind == "seen":
            commands += [("UNLINK", store.keys.tag + part) for part in await _parts_behind(store, rest)]
    for of_day, cubes in without_rows.items():
        commands += await store.rowless(cubes, sorted(pane for pane in panes if pane[1] // DAY_MS == of_day))
    owning = {store.keys.behind_tag(key): pane for pane in filter(None, map(pane_named, lost)) for key in store.keys_of(pane)}
    lengths = await store.lengths([*owning, *(name for name in lost if name != _LENGTHS and name not in owning)])
    commands += store.unlisted(owning[name] for name, length in lengths.items() if length < 0 and pane_named(name) is not None)
    return commands + [("UNLINK", store.keys.tag + name) for name, length in lengths.items() if length < 0]


async def _parts_behind(store: PartitionStore, lost: str) -> list[str]:
    """Parts of the ids of the same five minutes, which nobody would find behind the lost one (BUCKET or BUCKET:PART)."""
    bucket, _, part = lost.partition(":")
    found: list[str] = []
    while True:
        behind = store.keys.behind_tag(store.keys.seen(int(bucket), int(part or 0) + 1 + len(found)))
        if (await store.lengths([behind]))[behind] <= 0:
            return found
        found.append(behind)


async def measured(topic: Topic, settings: Settings, store: PartitionStore, meta: Meta) -> dict[str, int]:
    """How long the partition's keys are, by their names behind the tag: for tables that do not say it themselves."""
    keys = store.keys
    panes = await store.known_panes()
    days = days_of(panes, meta.record_time, Ladder(settings.streams.ladder)) if meta.record_time else set()
    names = [keys.panes(), *(keys.rows(cube, day) for day in days for cube in (*settings.all_cubes, KINDS))]
    if topic is Topic.SPEND:
        names += [keys.reports(day) for day in days]
    if topic is Topic.CAMPAIGNS:
        names.append(keys.registry())
    lengths = await store.lengths([keys.behind_tag(name) for name in names])
    lengths |= {name: size for name, (size, _) in (await store.sizes(panes)).items()}
    buckets, part = Seen(int(settings.streams.dedupe_horizon * 1000)).live_buckets(meta.record_time) if meta.record_time else [], 0
    while buckets:
        found = await store.lengths([keys.behind_tag(keys.seen(bucket, part)) for bucket in buckets])
        lengths |= found
        buckets, part = [bucket for bucket, length in zip(buckets, found.values(), strict=True) if length > 0], part + 1
    return {name: length for name, length in lengths.items() if length > 0}


async def _hold_more_than_log(store: PartitionStore) -> bool:
    """Whether the tables still count records of a topic that was deleted, or that the log lost."""
    return bool({Break.TOPIC_RECREATED.value, Break.LOG_TRUNCATED.value} & (await store.notes()).keys())


async def count_anew(store: PartitionStore, meta: Meta, state: LogState, finding: Finding, now: int) -> tuple[Meta, list[Finding]]:
    """Delete what the tables hold and begin at the start of the log."""
    # What the group has committed was read into the old tables: it does not say that the new ones fell back.
    anew = Meta(start_offset=state.earliest, applied_at=now, format=FORMAT, committed=state.committed)
    await store.clear(meta, anew, noted([finding], await store.notes(), now))
    return anew, [finding]

"""What is to be said of the records that nobody has applied yet, and of partitions whose owner is silent. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.config import INPUT_TOPICS, Settings
from streams.doctor.finding import Finding, failure, names, ok, span, warning
from streams.doctor.redis_look import TablesLook
from streams.ingest.continuity import LogState
from streams.tables.meta import Meta

TP = tuple[str, int]


def behind(settings: Settings, tables: TablesLook, logs: Mapping[TP, LogState]) -> dict[TP, int]:
    """Records of each partition that the tables do not have yet, from the first look at the tables to the end of the log."""
    inputs = {settings.topic(topic) for topic in INPUT_TOPICS}
    metas = {(keys.topic, keys.partition): meta for keys, meta in tables.metas.items() if keys.topic in inputs}
    return {tp: _behind(metas.get(tp), log) for tp, log in logs.items()}


def _behind(meta: Meta | None, log: LogState) -> int:
    reached = meta.next_offset if meta is not None else -1
    return max(0, log.end - max(reached, log.earliest))


def judge_lag(settings: Settings, tables: TablesLook, logs: Mapping[TP, LogState], members: int) -> Iterator[Finding]:
    """Findings on lag and owners; `members` of the group, 0 when no worker runs. `tables.later` must be from a moment later."""
    waiting = {tp: records for tp, records in behind(settings, tables, logs).items() if records}
    before = {(keys.topic, keys.partition): meta for keys, meta in tables.metas.items()}
    after = {(keys.topic, keys.partition): meta for keys, meta in tables.later.items()}
    still = [tp for tp in waiting if tp in after and tp in before and after[tp].applied_offset <= before[tp].applied_offset]
    patience = max(settings.streams.stuck_after, 2 * settings.streams.idle_timeout)
    silent = {tp: age for tp, meta in after.items() if tp in logs and (age := _silence(meta, tables.at)) is not None and age > patience}
    if not waiting:
        yield ok("lag", "no records wait")
    else:
        worst = sorted(waiting, key=lambda tp: (-waiting[tp], tp))
        listed = names(f"{topic}:{number} ({waiting[topic, number]:,})" for topic, number in worst)
        detail = f"{sum(waiting.values()):,} records wait in {len(waiting)} partitions: {listed}"
        stuck = [tp for tp in still if tp in silent]
        if not members:
            yield failure("lag", f"{detail}; no worker takes them", "start one: `campaignwatch streams`")
        elif stuck:
            yield failure(
                "lag",
                f"{detail}; nothing was applied of {_named(stuck)} for more than {span(patience)}",
                "/healthz of the workers says what hinders them; restarting one is safe at any moment",
            )
        elif len(still) == len(waiting):
            yield warning(
                "lag",
                f"{detail}; none was applied while looking",
                "look again; if it stays so, /healthz of the workers says what hinders them",
            )
        else:
            yield ok("lag", f"{detail}; it moves")
    quiet = sorted(tp for tp in silent if tp not in waiting)
    if members and quiet:
        oldest = max(silent[tp] for tp in quiet)
        yield warning(
            "owners",
            f"nobody has written for {_named(quiet)} for {span(oldest)}, not even that it was read to its end",
            "see the workers' logs and /healthz: a worker that owns a partition writes every few seconds",
        )
    elif members and after:
        yield ok(
            "owners",
            f"{len([tp for tp in after if tp in logs and tp not in silent])} partitions were written or read to their end just now",
        )


def _silence(meta: Meta, now: int) -> float | None:
    """Seconds since the owner wrote; None when nobody ever did."""
    newest = max(meta.applied_at, meta.caught_up_at)
    return (now - newest) / 1000 if newest else None


def _named(partitions: list[TP]) -> str:
    return names(f"{topic}:{number}" for topic, number in partitions)


def judge_group_offsets(tables: TablesLook, logs: Mapping[TP, LogState]) -> Iterator[Finding]:
    """Findings on the group's committed offsets, against those that the tables have applied and have last seen committed."""
    # Asked for in this order: the tables, the group, the tables again. An owner that goes on meanwhile must not look like a break.
    before = {(keys.topic, keys.partition): meta for keys, meta in tables.metas.items()}
    after = {(keys.topic, keys.partition): meta for keys, meta in tables.later.items()}
    back, ahead = [], []
    for (topic, number), log in logs.items():
        meta = before.get((topic, number))
        # Offsets of a topic of the same name before it was made again say nothing.
        if meta is None or log.committed < 0 or (meta.topic_id and log.topic_id and meta.topic_id != log.topic_id):
            continue
        if log.committed < meta.committed:
            back.append(f"{topic}:{number} (from {meta.committed} to {log.committed})")
        elif log.committed > (reached := after.get((topic, number), meta).next_offset) >= 0:
            ahead.append(f"{topic}:{number} (group {log.committed}, tables {reached})")
    if back:
        yield warning(
            "group offsets",
            f"somebody set them back: {names(back)}; the tables' own offsets decide, so nothing is read twice",
            "nothing, if that was all; to count anew from the log: `campaignwatch rebuild`",
        )
    if ahead:
        yield warning(
            "group offsets",
            f"they are ahead of the tables: {names(ahead)}; either Redis holds an older state than was applied, or somebody set "
            "them forward",
            "nothing: a worker reads on from the tables' offsets, so that what is missing is read again",
        )
    if not back and not ahead:
        yield ok("group offsets", "not ahead of the tables, and nobody set them back")

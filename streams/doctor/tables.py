"""What is to be said of the tables themselves: their form, generations, ledger, panes and watermarks. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.config import EVENT_TOPICS, Settings
from streams.doctor.finding import Finding, failure, names, ok, span, warning
from streams.doctor.redis_look import TablesLook
from streams.tables.keys import PartitionKeys
from streams.tables.meta import FORMAT, OLDEST_READABLE, Meta

_REBUILD = "campaignwatch rebuild"
#: Share of the records that may be refused before it is worth a look.
_REFUSED = 0.01


def judge_tables(settings: Settings, look: TablesLook, backlog: int | None) -> Iterator[Finding]:
    """Findings on the tables. `backlog`: records that wait, None where that is not known."""
    if not look.metas:
        yield warning(
            "tables",
            f"none under redis.namespace {settings.redis.namespace} for topics {settings.kafka.topic_prefix}.*",
            "start a worker: `campaignwatch streams`; if one runs, it has other settings",
        )
        return
    yield from _form(look.metas)
    yield from _generations(look)
    yield from _ledger(look.metas)
    yield from _panes(settings, look)
    yield from _watermark(settings, look, backlog)
    yield from _refused(look.metas)


def _name(keys: PartitionKeys) -> str:
    return f"{keys.topic}:{keys.partition}"


def _form(metas: Mapping[PartitionKeys, Meta]) -> Iterator[Finding]:
    newer = {meta.format for meta in metas.values() if meta.format > FORMAT}
    unreadable = [_name(keys) for keys, meta in metas.items() if meta.format < OLDEST_READABLE]
    older = [_name(keys) for keys, meta in metas.items() if OLDEST_READABLE <= meta.format < FORMAT]
    if newer:
        yield failure(
            "form of the tables",
            f"written in form {max(newer)}, and this version knows forms up to {FORMAT}: a newer version wrote them",
            "run that version, or give this one a redis.namespace of its own",
        )
    if unreadable:
        yield failure(
            "form of the tables",
            f"{names(unreadable)} are in a form older than {OLDEST_READABLE}, which this version cannot read",
            "a worker deletes them when it starts and counts anew from the log; back Redis up first if days older than the log matter",
        )
    if older:
        yield warning(
            "form of the tables",
            f"{names(older)} are in an older form than {FORMAT}, which a worker of this version takes over when it owns them",
            "let workers of this version run; there is no way back to the version before then",
        )
    if not newer and not unreadable and not older:
        yield ok("form of the tables", f"{FORMAT}, as this version writes it")


def _generations(look: TablesLook) -> Iterator[Finding]:
    in_use = next(iter(look.metas)).namespace
    if look.unused is None:
        yield warning(
            "generations",
            f"{in_use} is in use, and Redis does not let this user see whether others are left over; a rebuild would be refused too",
            'give the user the keys NAMESPACE~*, see "Redis with TLS, ACL or as a cluster" in docs/operations.md',
        )
    elif look.rebuilding:
        yield ok("generations", f"{in_use} is in use, and a rebuild is running")
    elif look.unused:
        yield warning(
            "generations",
            f"{in_use} is in use, and Redis also holds {names(look.unused)}, left over from a rebuild",
            f"the next `{_REBUILD}` removes them",
        )
    else:
        yield ok("generations", f"{in_use} is in use, and nothing is left over")


def _ledger(metas: Mapping[PartitionKeys, Meta]) -> Iterator[Finding]:
    unbalanced = [
        f"{_name(keys)} (in {meta.read}, accounted for {meta.applied + meta.duplicate + meta.too_late + meta.quarantined})"
        for keys, meta in metas.items()
        if meta.read != meta.applied + meta.duplicate + meta.too_late + meta.quarantined
    ]
    if unbalanced:
        yield failure(
            "ledger", f"does not balance in {names(unbalanced)}: records went nowhere", f"`{_REBUILD}`, and report it as a defect"
        )
    else:
        total = sum(meta.read for meta in metas.values())
        yield ok("ledger", f"balances in {len(metas)} partitions; {total:,} records in")


def _panes(settings: Settings, look: TablesLook) -> Iterator[Finding]:
    ladder = {pane.size for pane in settings.streams.ladder}
    if strange := sorted(look.pane_sizes - ladder):
        yield warning(
            "ladder",
            f"panes of {names(f'{size} s' for size in strange)} are stored and not in streams.ladder: they are not read, or "
            "workers run with "
            "other settings",
            f"give all processes the same streams.ladder; `{_REBUILD}` removes panes of a ladder of before",
        )
    elif look.pane_sizes and (absent := sorted(ladder - look.pane_sizes)):
        yield warning(
            "ladder",
            f"streams.ladder has panes of {names(f'{size} s' for size in absent)}, and none are stored: they were added, or "
            "workers run with "
            "other settings",
            f"restart workers that have the old settings; `{_REBUILD}` fills the new panes from the log",
        )
    elif look.pane_sizes:
        yield ok("ladder", "the panes that are stored are those of streams.ladder")
    if look.empty_cubes:
        yield warning(
            "cubes",
            f"nothing is stored of {names(look.empty_cubes)}: the cubes are new, or workers run without them",
            f"restart workers that have the old settings; `{_REBUILD}` counts them back to the start of the log",
        )


def _watermark(settings: Settings, look: TablesLook, backlog: int | None) -> Iterator[Finding]:
    lateness, idle = (int(seconds * 1000) for seconds in (settings.streams.lateness, settings.streams.idle_timeout))
    topics = {settings.topic(topic) for topic in EVENT_TOPICS}
    marks = {keys: meta.watermark(lateness, idle) for keys, meta in look.later.items() if keys.topic in topics and not meta.retired}
    if not marks:
        return
    if unset := [_name(keys) for keys, mark in marks.items() if mark is None]:
        yield warning(
            "watermark",
            f"{names(unset)} have none yet: no event came, and no worker has found them read to their end",
            f"wait {settings.streams.idle_timeout:g} s while a worker runs; until then no window is complete",
        )
        return
    slowest = min(marks, key=lambda keys: (marks[keys] or 0, keys.topic, keys.partition))
    late = (look.at - (marks[slowest] or 0)) / 1000
    detail = f"{span(max(0.0, late))} behind the clock, held by {_name(slowest)}"
    if late > settings.alerts.max_lag:
        reason = "no records wait, so no worker says that it was read to its end" if backlog == 0 else "see the lag"
        yield failure(
            "watermark",
            f"{detail}: further than alerts.max_lag ({settings.alerts.max_lag:g} s), so that no judge speaks; {reason}",
            "start or restart the worker of that partition (`campaignwatch streams`)",
        )
    else:
        yield ok("watermark", detail)


def _refused(metas: Mapping[PartitionKeys, Meta]) -> Iterator[Finding]:
    read, refused = sum(meta.read for meta in metas.values()), sum(meta.quarantined for meta in metas.values())
    if not read:
        return
    share = f"{refused:,} of {read:,} records ({refused / read:.1%}) were refused"
    if refused / read > _REFUSED:
        worst = [_name(keys) for keys, meta in sorted(metas.items(), key=lambda each: -each[1].quarantined) if meta.quarantined]
        yield warning("quarantine", f"{share}, most of {names(worst[:3])}", "`campaignwatch quarantine list` shows the reasons")
    else:
        yield ok("quarantine", share)

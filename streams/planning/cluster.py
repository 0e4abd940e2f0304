"""A load and the settings in, a plan out: what is needed of each part, each line with its arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from streams.config import Pane, Settings, Topic
from streams.ingest.dedupe import BUCKET_MS
from streams.planning.caveats import caveats
from streams.planning.load import EVENTS, Load
from streams.planning.measured import Coefficients, Points, between
from streams.planning.redis import BUSY, Masters, Memory, masters, memory
from streams.planning.tables import Bytes, dedupe_seconds
from streams.planning.words import bandwidth, number, size, span

_GIB = 2**30
_HOUR = 3_600
#: Partitions of a topic beyond which no plan is sought.
MOST_PARTITIONS = 2_000


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What an operator decides, beside the load."""

    #: Capacity over load: for peaks, and to catch up after a stop.
    headroom: float = 1.3
    #: Copies of each Kafka partition.
    replication: int = 3
    #: Stored bytes of an event over its bytes; below 1 where producers compress.
    compression: float = 1.0
    #: Bytes of memory of a Redis master.
    master_bytes: float = 64.0 * _GIB
    #: Memory over tables: a rebuild makes them a second time, and a rewrite of the append-only file needs room.
    redis_headroom: float = 2.0
    #: Partitions of each topic, None: as many as the workers need.
    partitions: int | None = None
    #: Part of all events that the largest campaign sends; None: all campaigns alike.
    largest_campaign: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One figure. `name` and `value` are for programs (in 1, bytes, seconds, a second; inf: no number is enough), the rest for people."""

    name: str
    value: float
    what: str
    shown: str
    how: str


@dataclass(frozen=True, slots=True)
class Section:
    """Figures that belong together."""

    title: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Alternative:
    """The same load, kept otherwise."""

    what: str
    redis_bytes: float
    partitions: int
    masters: Masters


@dataclass(slots=True)
class Plan:
    """What a load needs."""

    sections: list[Section] = field(default_factory=list)
    alternatives: list[Alternative] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def value(self, name: str) -> float:
        """The figure of that name."""
        return next(line.value for section in self.sections for line in section.lines if line.name == name)


@dataclass(frozen=True, slots=True)
class Sized:
    """What the load comes to in numbers."""

    partitions: int
    #: Partitions that the workers alone would need.
    for_workers: int
    workers: int
    #: Events a second of a worker, which depends on the campaigns in a partition.
    rate: float
    held: Memory
    masters: Masters


def plan_for(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients) -> Plan:
    """The plan. The tables' memory is that of a ladder that is full: after as long as its coarsest panes are kept."""
    sized = size_for(load, settings, assumed, c)
    largest = load.events_per_second * (assumed.largest_campaign or 1 / load.campaigns)
    ids = load.events_per_second * (settings.streams.dedupe_horizon + BUCKET_MS / 1000) / min(sized.workers, sized.partitions)
    return Plan(
        sections=[
            Section("Workers and partitions", _worker_lines(load, settings, assumed, c, sized, ids)),
            Section("Kafka", _kafka_lines(load, settings, assumed)),
            Section("Redis: memory once the ladder is full", _memory_lines(load, settings, sized.held, c)),
            Section("Redis: masters", _master_lines(load, settings, assumed, c, sized)),
        ],
        alternatives=list(alternatives(load, settings, assumed, c)),
        warnings=list(
            caveats(
                load,
                settings,
                c,
                partitions=sized.partitions,
                workers=sized.workers,
                rate=sized.rate,
                largest=largest,
                ids=ids,
                found=sized.masters,
            )
        ),
    )


def size_for(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients) -> Sized:
    """Two partitions of each topic for a worker; more where a topic-partition would not fit on a master of Redis."""
    limit = assumed.master_bytes / assumed.redis_headroom

    def sized(partitions: int, for_workers: int) -> Sized:
        rate = between(c.worker_events_per_second, load.campaigns / partitions)
        workers = math.ceil(load.events_per_second * assumed.headroom / rate)
        held = memory(load, settings, partitions, c)
        return Sized(partitions, for_workers, workers, rate, held, masters(load, settings, partitions, c, held, limit))

    if assumed.partitions:
        return sized(assumed.partitions, assumed.partitions)
    partitions = _for_workers(load, settings, assumed, c)
    first = found = sized(partitions, partitions)
    while not found.masters.fits and 2 * found.partitions <= MOST_PARTITIONS:
        found = sized(2 * found.partitions, partitions)
    return found if found.masters.fits else first


def _for_workers(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients) -> int:
    partitions = settings.kafka.partitions
    while True:
        rate = between(c.worker_events_per_second, load.campaigns / partitions)
        wanted = 2 * math.ceil(load.events_per_second * assumed.headroom / rate)
        if partitions >= wanted:
            return partitions
        partitions = wanted


def _worker_lines(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients, sized: Sized, ids: float) -> list[Line]:
    partitions, workers, rate = sized.partitions, sized.workers, sized.rate
    campaigns = load.campaigns / partitions
    events = number(load.events_per_second)
    cells = settings.streams.open_cells * 8
    pages = settings.http.cache_bytes
    ram = c.worker_base_mib * 2**20 + cells + pages + 2 * ids * c.worker_bytes_per_id
    why = f"2 x workers, at least kafka.partitions {settings.kafka.partitions}: a lost worker's go to the others, and workers can be added"
    if assumed.partitions:
        why = "as given"
    elif partitions > sized.for_workers:
        why = f"the workers need {number(sized.for_workers)}; doubled until a topic-partition fits on a master of Redis"
    return [
        Line(
            "worker_events_per_second",
            rate,
            "events/s of a worker",
            number(rate),
            f"at {number(campaigns)} campaigns in a partition ({number(load.campaigns)} / {number(partitions)}); measured: "
            + _points(c.worker_events_per_second, "campaigns"),
        ),
        Line(
            "workers",
            workers,
            "workers, a core each",
            number(workers),
            f"{events} events/s x {assumed.headroom:g} headroom / {number(rate)} events/s a worker = "
            f"{load.events_per_second * assumed.headroom / rate:,.1f}, rounded up",
        ),
        Line(
            "partitions",
            partitions,
            "partitions of each topic",
            number(partitions),
            f"{why}. Partition n of all topics goes to the same worker",
        ),
        Line(
            "ids_per_worker",
            ids,
            "event ids in a worker",
            number(ids),
            f"{events} events/s x ({span(settings.streams.dedupe_horizon)} streams.dedupe_horizon + 5 min) / "
            f"{number(min(workers, partitions))} workers",
        ),
        Line(
            "worker_bytes",
            ram,
            "memory of a worker",
            size(ram),
            f"{c.worker_base_mib:g} MiB + {size(cells)} streams.open_cells + {size(pages)} http.cache_bytes + {number(ids)} ids "
            f"x {c.worker_bytes_per_id:g} B x 2 (while their table grows, or is read back)",
        ),
    ]


def _kafka_lines(load: Load, settings: Settings, assumed: Assumptions) -> list[Line]:
    incoming = load.events_per_second * load.event_bytes * assumed.compression
    hours = settings.kafka.retention_hours
    disk = incoming * hours * _HOUR * assumed.replication
    compressed = f" x {assumed.compression:g} compression" if assumed.compression != 1 else ""
    return [
        Line(
            "kafka_bytes_per_second",
            incoming,
            "produced",
            bandwidth(incoming),
            f"{number(load.events_per_second)} events/s x {load.event_bytes:g} B{compressed}; the workers read as much",
        ),
        Line(
            "kafka_write_bytes_per_second",
            incoming * assumed.replication,
            "written, all brokers",
            bandwidth(incoming * assumed.replication),
            f"{bandwidth(incoming)} x {assumed.replication} copies",
        ),
        Line(
            "kafka_disk_bytes",
            disk,
            "disk, all brokers",
            size(disk),
            f"{bandwidth(incoming)} x {hours} h kafka.retention_hours x 3,600 s x {assumed.replication} copies",
        ),
    ]


def _memory_lines(load: Load, settings: Settings, held: Memory, c: Coefficients) -> list[Line]:
    lines = []
    for number_of, pane in enumerate(settings.streams.ladder):
        of_topics = [found[number_of] for found in held.levels.values() if found]
        panes = of_topics[0].panes
        one = sum((level.campaigns + level.shared for level in of_topics), Bytes())
        rows = sum(level.rows for level in of_topics)
        lines.append(
            Line(
                f"redis_panes_{pane.size}_bytes",
                one.all * panes,
                f"panes of {span(pane.size)}",
                size(one.all * panes),
                f"{panes:,} panes (kept {span(pane.keep)}, and the open one) x {number(rows)} rows: a pane has exact measures "
                f"{size(one.exact)}, "
                f"reach {size(one.reach)}, times {size(one.times)}",
            )
        )
    names, ids = sum(held.names.values()), sum(held.ids.values())
    seconds = dedupe_seconds(settings)
    tables = held.tables
    each = sum((level.campaigns * level.panes_after(86_400) for found in held.levels.values() for level in found), Bytes())
    each_full = sum((level.campaigns * level.panes for found in held.levels.values() for level in found), Bytes())
    days = settings.streams.ladder[-1].keep // 86_400
    lines += [
        Line("redis_names_bytes", names, "names of rows", size(names), f"{size(names / (days + 1))} a day x {days + 1} days"),
        Line(
            "redis_ids_bytes",
            ids,
            "event ids",
            size(ids),
            f"{number(load.events_per_second)} events/s x {number(seconds)} s (streams.dedupe_horizon and 10 min) x 24 B, with the room "
            f"behind them {ids / max(1.0, load.events_per_second * seconds):.0f} B",
        ),
        Line(
            "redis_reports_bytes",
            held.reports + held.registry,
            "spend reports, registry",
            size(held.reports + held.registry),
            f"{number(load.campaigns)} campaigns x ({load.reports:g} reports a day x {days + 1} days x {c.report_bytes:g} B + "
            f"{c.campaign_bytes:g} B)",
        ),
        Line(
            "redis_bytes",
            held.all,
            "all",
            size(held.all),
            f"of the panes: exact measures {size(tables.exact)}, reach {size(tables.reach)}, times {size(tables.times)}",
        ),
        Line(
            "redis_campaign_day_bytes",
            each.all / load.campaigns,
            "a campaign's first day",
            size(each.all / load.campaigns),
            f"its own rows on all levels: exact measures {size(each.exact / load.campaigns)}, reach {size(each.reach / load.campaigns)}, "
            f"times {size(each.times / load.campaigns)}; {size(each_full.all / load.campaigns)} once the ladder is full",
        ),
    ]
    return lines


def _master_lines(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients, sized: Sized) -> list[Line]:
    partitions, held, found = sized.partitions, sized.held, sized.masters
    campaigns = load.campaigns / partitions
    micros, sent = between(c.redis_cpu_us_per_event, campaigns), between(c.redis_bytes_per_event, campaigns)
    cores = load.events_per_second * micros / 1e6
    interval = settings.streams.flush_interval
    flushes = sum(
        partitions * max(1 / interval, load.rate(topic) / partitions / settings.streams.flush_events)
        for topic in EVENTS
        if load.rate(topic)
    )
    return [
        Line(
            "redis_cores",
            cores,
            "cores of Redis",
            f"{cores:,.2f}",
            f"{number(load.events_per_second)} events/s x {micros:.2g} us at {number(campaigns)} campaigns in a partition",
        ),
        Line(
            "redis_masters",
            found.count if found.fits else math.inf,
            "masters",
            number(found.count) if found.fits else "none is enough",
            f"{size(held.all)} x {assumed.redis_headroom:g} (a rebuild makes the tables a second time) / {size(assumed.master_bytes)} = "
            f"{held.all * assumed.redis_headroom / assumed.master_bytes:,.1f}; {cores:,.2f} cores / {BUSY:g} a master = "
            f"{cores / BUSY:,.1f}; "
            "the more of both, and more until it holds for the fullest",
        ),
        Line(
            "redis_fullest_master_bytes",
            found.fullest,
            "tables of the fullest",
            size(found.fullest),
            f"{found.uneven:.2f} x the mean {size(held.all / found.count)}: a topic-partition is in one slot, and slots are cut "
            f"into equal ranges",
        ),
        Line(
            "redis_flushes_per_second",
            flushes,
            "writes (scripts)",
            f"{number(flushes)}/s",
            f"{partitions} partitions x {sum(load.rate(t) > 0 for t in EVENTS)} topics, each every {interval:g} s "
            f"streams.flush_interval or "
            f"{settings.streams.flush_events:,} streams.flush_events",
        ),
        Line(
            "redis_network_bytes_per_second",
            load.events_per_second * sent,
            "network into Redis",
            bandwidth(load.events_per_second * sent),
            f"{number(load.events_per_second)} events/s x {number(sent)} B; replicas and the append-only file as much again, each",
        ),
    ]


def alternatives(load: Load, settings: Settings, assumed: Assumptions, c: Coefficients) -> Iterator[Alternative]:
    """What would take less memory: fewer users, coarse panes for a quarter of the time, both, and no users at all."""

    def consider(what: str, other: Load, others: Settings) -> Alternative:
        sized = size_for(other, others, assumed, c)
        return Alternative(what, sized.held.all, sized.partitions, sized.masters)

    fewer, shorter, words = load, settings, []
    if load.rate(Topic.ENGAGEMENTS) and load.user_part(Topic.ENGAGEMENTS):
        fewer = load.without_users(Topic.ENGAGEMENTS)
        words.append("no user_id on engagements")
        yield consider(words[-1], fewer, settings)
    ladder = settings.streams.ladder
    for i in (len(ladder) - 2, len(ladder) - 1):
        kept = _kept(settings, i, lambda pane: pane.keep // 4 // pane.size * pane.size) if i > 0 else None
        if kept is not None:
            words.append(f"panes of {span(ladder[i].size)} kept {span(kept.streams.ladder[i].keep)} instead of {span(ladder[i].keep)}")
            yield consider(words[-1], load, kept)
            shorter = _kept(shorter, i, lambda pane: pane.keep // 4 // pane.size * pane.size) or shorter
    if len(words) > 1:
        yield consider("all of these together", fewer, shorter)
    if any(load.user_part(topic) for topic in EVENTS):
        none = load.without_users(*EVENTS)
        yield consider("no user_id at all, so no reach", none, settings)
        if load.timed:
            yield consider("no user_id, dwell_ms or load_ms: exact measures only", replace(none, timed=0.0), settings)


def _kept(settings: Settings, at: int, keep: Callable[[Pane], int]) -> Settings | None:
    """The settings with another `keep` for one level; None where the ladder would no longer fit."""
    ladder = list(settings.streams.ladder)
    ladder[at] = Pane.model_construct(size=ladder[at].size, keep=keep(ladder[at]))
    if ladder[at].keep < max(60, ladder[at].size) or (at and ladder[at].keep < ladder[at - 1].keep):
        return None
    return settings.model_copy(update={"streams": settings.streams.model_copy(update={"ladder": tuple(ladder)})})


def _points(points: Points, of: str) -> str:
    return ", ".join(f"{number(value)} at {number(at)}" for at, value in points) + f" {of}"

"""What is to be said of the topics: whether they are there and as planned, and whether their log fits to what the tables hold. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streams.config import EVENT_TOPICS, INPUT_TOPICS, Settings
from streams.doctor.finding import Finding, Unanswered, failure, names, ok, span, unanswered, warning
from streams.doctor.kafka_look import KafkaLook
from streams.ingest.continuity import LogState
from streams.tables.keys import PartitionKeys
from streams.tables.meta import Meta
from streams.topics import differences, plan

_CREATE = "campaignwatch topics create"
_REBUILD = "campaignwatch rebuild"
_ALTER = "change the topic with Kafka's own tools, or the settings to what it is"


def judge_topics(settings: Settings, look: KafkaLook) -> Iterator[Finding]:
    """Findings on each topic against the plan."""
    right = 0
    for wanted in plan(settings):
        what = f"topic {wanted.name}"
        found = look.topics.get(wanted.name)
        if found is None:
            if wanted.name in look.hidden:
                yield failure(what, "it exists and this client may not see it", "allow the user to read and write the topic")
            else:
                yield failure(what, "there is no such topic", _CREATE)
            continue
        differs = differences(wanted, len(found.partitions), found.configs)
        if differs:
            yield warning(what, "; ".join(differs), _ALTER)
        else:
            right += 1
    if right:
        yield ok("topics", f"{right} of {len(plan(settings))} are there as planned")
    yield from _retention(settings, look)


def _retention(settings: Settings, look: KafkaLook) -> Iterator[Finding]:
    """What the log keeps, against what must be read from it again one day."""
    kept: dict[str, float] = {}
    for topic in EVENT_TOPICS:
        found = look.topics.get(settings.topic(topic))
        value = found.configs.get("retention.ms") if found is not None else None
        if value is not None:
            kept[settings.topic(topic)] = float("inf") if int(value) < 0 else int(value) / 1000
    if not kept:
        return
    erased = settings.erased_keep_hours * 3_600
    if too_long := [name for name, seconds in kept.items() if seconds > erased]:
        yield warning(
            "retention",
            f"{names(too_long)} keep events for longer than erased users are remembered ({erased // 86_400} days): a rebuild could bring "
            "erased users back",
            "raise privacy.erased_keep_days, or shorten retention.ms of the topics",
        )
    shortest = min(kept.values())
    needed = settings.streams.dedupe_horizon + settings.streams.ladder[0].keep
    if shortest < needed:
        yield warning(
            "retention",
            f"events are kept for {span(shortest)} only: after an outage that long they are gone unread, and a rebuild cannot "
            "fill even the "
            "finest panes",
            "raise retention.ms of the topics, and kafka.retention_hours with it",
        )
        return
    reach = "without end" if shortest == float("inf") else f"for {span(shortest)}"
    longer = [span(pane.size) for pane in settings.streams.ladder if pane.keep > shortest]
    beyond = f"; panes of {' and '.join(longer)} are kept longer than that, so back them up with Redis" if longer else ""
    yield ok("retention", f"events are kept {reach}, which is how far back a rebuild reaches{beyond}")


def judge_logs(settings: Settings, look: KafkaLook, metas: Mapping[PartitionKeys, Meta]) -> Iterator[Finding]:
    """Findings on whether each partition's log goes on where its tables are."""
    inputs = {settings.topic(topic) for topic in INPUT_TOPICS}
    logs = look.logs
    if isinstance(logs, Unanswered):
        yield unanswered("log", logs, "try again; see the broker's log")
        return
    known = {(keys.topic, keys.partition): meta for keys, meta in metas.items() if keys.topic in inputs}
    wrong = 0
    for (topic, partition), meta in known.items():
        log = logs.get((topic, partition))
        found = None if log is None else _against(f"log of {topic}:{partition}", log, meta)
        if found is not None:
            wrong += 1
            yield found
    if without := [f"{topic}:{partition}" for topic, partition in logs if (topic, partition) not in known]:
        yield warning(
            "partitions",
            f"no worker has ever owned {names(without)}",
            "start a worker (`campaignwatch streams`); those that run see added partitions within minutes",
        )
    gone = [f"{topic}:{number}" for topic, number in known if topic in look.topics and number not in look.topics[topic].partitions]
    holding = [name for name in gone if not known[(name.rpartition(":")[0], int(name.rpartition(":")[2]))].retired]
    if gone:
        detail = f"Kafka has no partition {names(gone)} any more; their tables are still read"
        if holding:
            do = f"start a worker, which retires them; `{_REBUILD}` counts anew from the partitions that there are"
            yield warning("partitions", f"{detail}, and {names(holding)} hold the watermark", do)
        else:
            yield ok("partitions", f"{detail} (retired)")
    if known and not wrong:
        yield ok("log", f"goes on where the tables are, in {len(known) - len(gone)} partitions")


def _against(what: str, log: LogState, meta: Meta) -> Finding | None:
    reached = meta.next_offset
    if meta.topic_id and log.topic_id and meta.topic_id != log.topic_id:
        return failure(
            what,
            f"the topic was deleted and made again after offset {reached - 1}, and no worker has noticed yet; what the old one "
            "held stays in "
            "the tables",
            f"start a worker, which reads the new topic from its start; `{_REBUILD}` if only what the log has now is to count",
        )
    if reached < 0:
        return None
    if log.earliest > reached:
        return failure(
            what,
            f"it begins at offset {log.earliest} and the tables end before {reached}: {log.earliest - reached:,} records went before "
            "anybody read them",
            "they cannot be had back, unless producers send them again; raise retention.ms, and start a worker, which goes on "
            "behind the gap",
        )
    if log.end < reached:
        return failure(
            what,
            f"it ends at offset {log.end} and the tables hold records up to {reached - 1}: the log was cut, or the topic made again",
            f"start a worker, which reads on from there; then `{_REBUILD}`, so that only what the log has counts",
        )
    return None

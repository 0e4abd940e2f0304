"""What is to be said of the brokers: how many, whether every partition has its leader and all its copies, and the time-out of "
"the group. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from streams.config import Settings
from streams.doctor.finding import Finding, Unanswered, failure, names, ok, unanswered, warning
from streams.doctor.kafka_look import KafkaLook

_SEE = 'see "Run it for real" in docs/operations.md'


def judge_brokers(settings: Settings, look: KafkaLook) -> Iterator[Finding]:
    """Findings on the brokers and the copies of the topics' partitions."""
    brokers = f"{look.brokers} broker{'s' if look.brokers != 1 else ''} at {settings.kafka.bootstrap_servers}"
    yield ok("kafka", brokers)
    partitions = {f"{name}:{number}": each for name, topic in look.topics.items() for number, each in topic.partitions.items()}
    offline = [name for name, each in partitions.items() if each.leader < 0]
    if offline:
        yield failure("kafka replicas", f"nobody leads {names(offline)}: they can be neither read nor written", "start the missing brokers")
    behind = [
        f"{name} ({len(each.in_sync)} of {len(each.replicas)})"
        for name, each in partitions.items()
        if each.leader >= 0 and len(each.in_sync) < len(each.replicas)
    ]
    if behind:
        yield warning(
            "kafka replicas",
            f"copies are missing or behind: {names(behind)}",
            "see whether a broker is down; its copies catch up by themselves",
        )
    single = sorted({name.rpartition(":")[0] for name, each in partitions.items() if len(each.replicas) == 1})
    if single:
        yield warning(
            "kafka replicas", f"one copy only of {names(single)}: events are lost with that broker's disk", f"in production three; {_SEE}"
        )
    elif partitions and not offline and not behind:
        yield ok("kafka replicas", f"all copies of {len(partitions)} partitions are complete")
    yield from _session(settings, look)
    for name, answer in look.problems.items():
        yield unanswered(name, answer, 'see the rights under "Kafka with a password or TLS" in docs/operations.md')


def _session(settings: Settings, look: KafkaLook) -> Iterator[Finding]:
    if look.session_limits is None:
        return
    least, most = look.session_limits
    wanted = settings.kafka.session_timeout
    if not least <= wanted * 1000 <= most:
        yield failure(
            "session timeout",
            f"kafka.session_timeout is {wanted:g} s and the brokers allow {least / 1000:g} to {most / 1000:g} s: no worker can "
            "join its group",
            "change kafka.session_timeout, or group.min.session.timeout.ms and group.max.session.timeout.ms of the brokers",
        )
    else:
        yield ok("session timeout", f"{wanted:g} s; the brokers allow {least / 1000:g} to {most / 1000:g} s")


def judge_group(look: KafkaLook, name: str, waiting: int | None) -> Finding:
    """Whether workers are there. `waiting`: records that nobody has applied yet, None where that is not known."""
    what = "workers"
    if isinstance(look.group, Unanswered):
        return unanswered(what, look.group, f"allow this client to describe and read group {name}")
    state, members = look.group.state, look.group.members
    if members == 0:
        detail = f"no worker is in group {name} ({state.lower()})"
        do = "start one: `campaignwatch streams`; if it ends at once, its last line says why"
        if waiting == 0:
            return warning(what, f"{detail}; no records wait", do)
        return failure(what, f"{detail}; {'records may wait' if waiting is None else f'{waiting:,} records wait'}", do)
    detail = f"{members} in group {name}, {state.lower()}"
    if state in ("PreparingRebalance", "CompletingRebalance"):
        return warning(
            what, f"{detail}: partitions are being given out anew", "look again in a minute; if it stays so, see the workers' logs"
        )
    return ok(what, detail)

"""Each judgement of the doctor on what was seen: when it is a failure, when a warning, and that the next step is named."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from rich.console import Console

from alerts.doctor.alerts import AlertsLook, SinkLook, judge_alerts, judge_receivers
from alerts.doctor.command import as_document, show
from alerts.doctor.examining import Examination
from streams.config import Http, Kafka, Privacy, Settings, Streams
from streams.doctor.breaks import ADVICE, RECENT, judge_breaks
from streams.doctor.configuration import judge_configuration
from streams.doctor.finding import Finding, Level, Unanswered, asked, names, ok, span
from streams.doctor.kafka import judge_brokers, judge_group
from streams.doctor.kafka_look import Group, KafkaLook, Partition, TopicLook
from streams.doctor.lag import behind, judge_group_offsets, judge_lag
from streams.doctor.redis import judge_servers
from streams.doctor.redis_look import Server, TablesLook
from streams.doctor.tables import judge_tables
from streams.doctor.topics import judge_logs, judge_topics
from streams.ingest.continuity import Break, LogState, Note
from streams.tables.keys import PartitionKeys
from streams.tables.meta import FORMAT, Meta
from streams.topics import plan

SETTINGS = Settings(kafka=Kafka(partitions=1))
CLICKS = PartitionKeys("cw", "marketing.clicks", 0)
TP = ("marketing.clicks", 0)
NOW = 1_800_000_000_000
META = Meta(
    start_offset=0,
    applied_offset=99,
    read=100,
    applied=95,
    duplicate=5,
    event_time=NOW - 1_000,
    record_time=NOW - 1_000,
    applied_at=NOW - 20_000,
    caught_up_at=NOW - 1_000,
    format=FORMAT,
    committed=100,
    topic_id="one",
)
LOG = LogState(0, 100, 100, topic_id="one")
LADDER = frozenset(pane.size for pane in SETTINGS.streams.ladder)


def tables(meta: Meta = META, later: Meta | None = None, **changes: Any) -> TablesLook:
    look = TablesLook({CLICKS: meta}, {CLICKS: later or meta}, {CLICKS: {}}, LADDER, (), (), False, NOW)
    return replace(look, **changes)


def kafka(copies: tuple[int, ...] = (1, 2, 3), in_sync: tuple[int, ...] | None = None, leader: int = 1, **changes: Any) -> KafkaLook:
    partition = Partition(leader, copies, copies if in_sync is None else in_sync)
    topics = {each.name: TopicLook(dict.fromkeys(range(each.partitions), partition), each.configs) for each in plan(SETTINGS)}
    return replace(KafkaLook(3, topics, (), {TP: LOG}, Group("Stable", 2)), **changes)


def levels(found: Iterable[Finding]) -> dict[str, Level]:
    """Worst level of each thing. Whatever is not well says what to do."""
    worst: dict[str, Level] = {}
    order = list(Level)
    for finding in found:
        assert finding.do or finding.level is Level.OK, finding
        worst[finding.what] = max(worst.get(finding.what, Level.OK), finding.level, key=order.index)
    return worst


def only(found: Iterable[Finding]) -> Finding:
    (finding,) = [each for each in found if each.level is not Level.OK]
    assert finding.do
    return finding


# Kafka.


def test_brokers_with_all_copies_are_well() -> None:
    assert set(levels(judge_brokers(SETTINGS, kafka())).values()) == {Level.OK}


@pytest.mark.parametrize(
    ("look", "level", "words"),
    [
        pytest.param(kafka(leader=-1), Level.FAILURE, "nobody leads", id="offline"),
        pytest.param(kafka(in_sync=(1, 2)), Level.WARNING, "2 of 3", id="copy-behind"),
        pytest.param(kafka(copies=(1,)), Level.WARNING, "one copy only", id="one-copy"),
    ],
)
def test_copies(look: KafkaLook, level: Level, words: str) -> None:
    finding = only(judge_brokers(SETTINGS, look))
    assert (finding.what, finding.level) == ("kafka replicas", level)
    assert words in finding.detail


@pytest.mark.parametrize(
    ("limits", "level"), [((6_000, 1_800_000), Level.OK), ((12_000, 60_000), Level.FAILURE), ((1, 9_999), Level.FAILURE)]
)
def test_the_session_timeout_is_held_against_the_brokers_limits(limits: tuple[int, int], level: Level) -> None:
    assert levels(judge_brokers(SETTINGS, kafka(session_limits=limits)))["session timeout"] is level


@pytest.mark.parametrize(
    ("group", "waiting", "level"),
    [
        (Group("Stable", 1), 10, Level.OK),
        (Group("PreparingRebalance", 2), 10, Level.WARNING),
        (Group("Empty", 0), 0, Level.WARNING),
        (Group("Empty", 0), 1, Level.FAILURE),
        (Group("Dead", 0), None, Level.FAILURE),
        (Unanswered("GroupAuthorizationFailedError"), 0, Level.WARNING),
    ],
    ids=["stable", "rebalance", "nobody-nothing-waits", "nobody-something-waits", "nobody-unknown", "refused"],
)
def test_a_group_without_workers_is_a_failure_when_records_wait(group: Group | Unanswered, waiting: int | None, level: Level) -> None:
    assert judge_group(kafka(group=group), "marketing-streams", waiting).level is level


def test_what_could_not_be_asked_is_said() -> None:
    look = kafka(problems={"configuration of the topics": Unanswered("TopicAuthorizationFailedError")})
    finding = only(judge_brokers(SETTINGS, look))
    assert (finding.what, finding.level) == ("configuration of the topics", Level.WARNING)
    assert "TopicAuthorizationFailedError" in finding.detail


# Topics and logs.


def test_topics_as_planned_are_well_and_say_how_far_back_a_rebuild_reaches() -> None:
    found = list(judge_topics(SETTINGS, kafka()))
    assert levels(found) == {"topics": Level.OK, "retention": Level.OK}
    assert "7 d" in next(each.detail for each in found if each.what == "retention")


def test_a_missing_topic_a_hidden_one_and_one_that_differs() -> None:
    look = kafka()
    topics = dict(look.topics)
    for name in ("marketing.clicks", "marketing.spend"):
        del topics[name]
    topics["marketing.conversions"] = TopicLook(topics["marketing.conversions"].partitions, {"message.timestamp.type": "CreateTime"})
    found = list(judge_topics(SETTINGS, replace(look, topics=topics, hidden=["marketing.spend"])))
    assert levels(found)["topic marketing.clicks"] is Level.FAILURE
    assert next(each.do for each in found if each.what == "topic marketing.clicks") == "campaignwatch topics create"
    assert "may not see" in next(each.detail for each in found if each.what == "topic marketing.spend")
    assert levels(found)["topic marketing.conversions"] is Level.WARNING


@pytest.mark.parametrize(
    ("retention", "level", "words"),
    [
        (3_600_000, Level.WARNING, "gone unread"),
        (7 * 86_400_000, Level.OK, "7 d"),
        (31 * 86_400_000, Level.WARNING, "erased users"),
        (-1, Level.WARNING, "erased users"),
    ],
)
def test_retention_is_neither_too_short_for_a_rebuild_nor_too_long_for_the_erased(retention: int, level: Level, words: str) -> None:
    look = kafka()
    topics = {name: replace(topic, configs={**topic.configs, "retention.ms": str(retention)}) for name, topic in look.topics.items()}
    found = [each for each in judge_topics(SETTINGS, replace(look, topics=topics)) if each.what == "retention"]
    assert words in found[0].detail
    assert found[0].level is level


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (replace(LOG, earliest=150, end=200), "50 records went"),
        (replace(LOG, end=60), "ends at offset 60"),
        (replace(LOG, topic_id="two"), "made again"),
    ],
    ids=["begins-later", "ends-before", "another-topic"],
)
def test_a_log_that_does_not_go_on_where_the_tables_are(log: LogState, words: str) -> None:
    finding = only(judge_logs(SETTINGS, kafka(logs={TP: log}), {CLICKS: META}))
    assert finding.level is Level.FAILURE
    assert words in finding.detail


def test_a_log_that_goes_on_is_well_whether_or_not_records_wait() -> None:
    for end in (100, 5_000):
        assert levels(judge_logs(SETTINGS, kafka(logs={TP: replace(LOG, end=end)}), {CLICKS: META})) == {"log": Level.OK}
    assert levels(judge_logs(SETTINGS, kafka(), {CLICKS: Meta()}))["log"] is Level.OK, "claimed, and nothing read yet"


@pytest.mark.parametrize(("retired", "level"), [(0, Level.WARNING), (1, Level.OK)])
def test_partitions_on_one_side_only(retired: int, level: Level) -> None:
    gone = replace(CLICKS, partition=7)
    found = list(judge_logs(SETTINGS, kafka(), {CLICKS: META, gone: replace(META, retired=retired)}))
    assert levels(found)["partitions"] is level
    assert "marketing.clicks:7" in next(each.detail for each in found if each.what == "partitions")
    assert "has ever owned" in only(judge_logs(SETTINGS, kafka(), {})).detail


# Lag and offsets of the group.


def test_lag_is_counted_from_the_tables_or_from_the_start_of_the_log() -> None:
    logs = {TP: replace(LOG, end=130), ("marketing.spend", 0): LogState(40, 50)}
    assert behind(SETTINGS, tables(), logs) == {TP: 30, ("marketing.spend", 0): 10}


@pytest.mark.parametrize(
    ("later", "members", "level"),
    [
        pytest.param(replace(META, applied_offset=110), 1, Level.OK, id="moves"),
        pytest.param(META, 1, Level.WARNING, id="stands-for-a-moment"),
        pytest.param(replace(META, applied_at=NOW - 90_000, caught_up_at=0), 1, Level.FAILURE, id="stands-for-long"),
        pytest.param(META, 0, Level.FAILURE, id="nobody"),
    ],
)
def test_lag_is_judged_by_whether_it_moves(later: Meta, members: int, level: Level) -> None:
    found = list(judge_lag(SETTINGS, tables(later=later), {TP: replace(LOG, end=200)}, members))
    assert levels(found)["lag"] is level
    assert "100 records wait in 1 partitions" in found[0].detail


def test_an_owner_that_writes_nothing_at_all() -> None:
    silent = replace(META, applied_at=NOW - 300_000, caught_up_at=NOW - 200_000)
    assert levels(judge_lag(SETTINGS, tables(silent), {TP: LOG}, 1)) == {"lag": Level.OK, "owners": Level.WARNING}
    assert levels(judge_lag(SETTINGS, tables(), {TP: LOG}, 1)) == {"lag": Level.OK, "owners": Level.OK}


@pytest.mark.parametrize(
    ("committed", "words"), [(100, ""), (99, "set them back"), (0, "set them back"), (101, "ahead of the tables"), (-1, "")]
)
def test_group_offsets_that_somebody_moved(committed: int, words: str) -> None:
    (finding,) = judge_group_offsets(tables(), {TP: replace(LOG, committed=committed)})
    assert finding.level is (Level.WARNING if words else Level.OK)
    assert words in finding.detail


def test_group_offsets_of_an_owner_that_goes_on_while_looking_are_no_break() -> None:
    later = replace(META, applied_offset=299, committed=200)
    (finding,) = judge_group_offsets(tables(later=later), {TP: replace(LOG, end=400, committed=150)})
    assert finding.level is Level.OK


# Tables.


def test_tables_that_are_well() -> None:
    assert set(levels(judge_tables(SETTINGS, tables(), 0)).values()) == {Level.OK}


@pytest.mark.parametrize(
    ("look", "what", "level"),
    [
        pytest.param(tables(replace(META, format=FORMAT + 1)), "form of the tables", Level.FAILURE, id="newer"),
        pytest.param(tables(replace(META, format=0)), "form of the tables", Level.FAILURE, id="unreadable"),
        pytest.param(tables(replace(META, format=1)), "form of the tables", Level.WARNING, id="older"),
        pytest.param(tables(unused=["cw~3"]), "generations", Level.WARNING, id="left-over"),
        pytest.param(tables(unused=None), "generations", Level.WARNING, id="not-allowed"),
        pytest.param(tables(replace(META, read=101)), "ledger", Level.FAILURE, id="unbalanced"),
        pytest.param(tables(pane_sizes=LADDER | {7}), "ladder", Level.WARNING, id="strange-pane"),
        pytest.param(tables(pane_sizes=LADDER - {60}), "ladder", Level.WARNING, id="absent-pane"),
        pytest.param(tables(empty_cubes=["keyword"]), "cubes", Level.WARNING, id="cube"),
        pytest.param(tables(replace(META, event_time=0, caught_up_at=0)), "watermark", Level.WARNING, id="no-watermark"),
        pytest.param(tables(replace(META, event_time=NOW - 900_000, caught_up_at=0)), "watermark", Level.FAILURE, id="late"),
        pytest.param(tables(replace(META, applied=93, quarantined=2)), "quarantine", Level.WARNING, id="refused"),
    ],
)
def test_tables_that_are_not_well(look: TablesLook, what: str, level: Level) -> None:
    finding = only(judge_tables(SETTINGS, look, 0))
    assert (finding.what, finding.level) == (what, level)


def test_no_tables_at_all() -> None:
    assert only(judge_tables(SETTINGS, replace(tables(), metas={}, later={}), None)).what == "tables"


def test_tables_that_a_rebuild_is_filling_are_no_left_overs() -> None:
    assert levels(judge_tables(SETTINGS, tables(unused=["cw~1"], rebuilding=True), 0))["generations"] is Level.OK


def test_a_retired_partition_does_not_hold_the_watermark() -> None:
    gone = replace(CLICKS, partition=7)
    look = tables()
    look = replace(look, later={**look.later, gone: replace(META, event_time=1, caught_up_at=0, retired=1)})
    assert levels(judge_tables(SETTINGS, look, 0))["watermark"] is Level.OK


# Breaks.


@pytest.mark.parametrize("kind", list(Break))
def test_every_kind_of_break_has_its_advice_and_is_history_after_some_days(kind: Break) -> None:
    packed = Note(2, 70, NOW - 60_000, "what happened").pack()
    (finding,) = judge_breaks({CLICKS: {kind.value: packed}}, NOW)
    assert (finding.level, finding.do) == (Level.WARNING, ADVICE[kind])
    assert "2 times, 70 records in all" in finding.detail
    (old,) = judge_breaks({CLICKS: {kind.value: packed}}, NOW + RECENT * 1_000)
    assert old.level is Level.OK
    assert "what happened" in old.detail


def test_the_operations_guide_has_a_row_for_every_kind_of_break() -> None:
    text = (Path(__file__).parents[2] / "docs/operations.md").read_text("utf-8")
    for kind in Break:
        assert f"| `{kind.value}` |" in text


def test_notes_that_cannot_be_read_or_are_of_an_unknown_kind_hide_nothing() -> None:
    found = list(judge_breaks({CLICKS: {"records_gone": b"{", "of_tomorrow": Note(1, 0, NOW, "x").pack()}}, NOW))
    assert levels(found) == {"break records_gone": Level.WARNING, "break of_tomorrow": Level.WARNING}
    assert levels(judge_breaks({CLICKS: {}}, NOW)) == {"breaks": Level.OK}


# Redis.

_INFO = {
    "role": "master",
    "maxmemory_policy": "noeviction",
    "used_memory": 100,
    "maxmemory": 1_000,
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
}


def server(ping: float = 0.001, ahead: float = 0.0, cluster: dict[str, Any] | None = None, **info: Any) -> Server:
    return Server("127.0.0.1:6379", {**_INFO, **info}, ping, ahead, cluster or {})


def test_a_server_that_is_well() -> None:
    assert set(levels(judge_servers([server()])).values()) == {Level.OK}


@pytest.mark.parametrize(
    ("seen", "what", "level"),
    [
        pytest.param(server(maxmemory_policy="allkeys-lru"), "redis eviction", Level.FAILURE, id="eviction"),
        pytest.param(server(used_memory=800), "redis memory", Level.WARNING, id="filling"),
        pytest.param(server(used_memory=950), "redis memory", Level.FAILURE, id="full"),
        pytest.param(server(maxmemory=0, used_memory_rss=970, total_system_memory=1_000), "redis memory", Level.FAILURE, id="machine-full"),
        pytest.param(server(aof_enabled=0), "redis persistence", Level.WARNING, id="no-aof"),
        pytest.param(server(aof_last_write_status="err"), "redis persistence", Level.FAILURE, id="aof-failed"),
        pytest.param(server(rdb_last_bgsave_status="err"), "redis persistence", Level.FAILURE, id="snapshot-failed"),
        pytest.param(server(role="slave"), "redis role", Level.FAILURE, id="replica"),
        pytest.param(server(ping=0.4), "redis speed", Level.WARNING, id="slow"),
        pytest.param(server(ahead=-30.0), "clock", Level.WARNING, id="clock"),
        pytest.param(server(cluster={"cluster_state": "fail", "cluster_slots_ok": "5"}), "redis cluster", Level.FAILURE, id="cluster"),
    ],
)
def test_a_server_that_is_not_well(seen: Server, what: str, level: Level) -> None:
    finding = only(judge_servers([seen]))
    assert (finding.what, finding.level) == (what, level)


def test_of_several_servers_each_is_named() -> None:
    one, two = server(), replace(server(aof_enabled=0), name="127.0.0.1:6380")
    assert only(judge_servers([one, two])).what == "redis persistence at 127.0.0.1:6380"


# Alerts.

ALERTS = AlertsLook("host-1", 12.0, True, 40, {"kafka": SinkLook(True, 0, 0.0)}, 2)


def test_alerts_that_are_well() -> None:
    found = list(judge_alerts(SETTINGS, ALERTS))
    assert set(levels(found).values()) == {Level.OK}
    assert "held by host-1, for another 12.0 s" in found[0].detail


@pytest.mark.parametrize(
    ("look", "what", "level"),
    [
        pytest.param(replace(ALERTS, leader=None), "alerts lease", Level.FAILURE, id="no-leader"),
        pytest.param(replace(ALERTS, outbox=80_000), "outbox", Level.WARNING, id="filling"),
        pytest.param(replace(ALERTS, outbox=100_000), "outbox", Level.FAILURE, id="full"),
        pytest.param(replace(ALERTS, sinks={"slack": SinkLook(True, 3, 900.0)}), "messages to slack", Level.FAILURE, id="waits"),
    ],
)
def test_alerts_that_are_not_well(look: AlertsLook, what: str, level: Level) -> None:
    finding = only(judge_alerts(SETTINGS, look))
    assert (finding.what, finding.level) == (what, level)


def test_without_slack_nobody_is_told() -> None:
    assert judge_receivers(SETTINGS, {"kafka": None}).level is Level.WARNING
    assert judge_receivers(SETTINGS, {"kafka": None, "slack": None}).level is Level.OK


# Settings.


def test_the_defaults_are_told_and_own_settings_are_well() -> None:
    assert levels(judge_configuration(Settings())) == {"privacy key": Level.WARNING, "http login": Level.OK}
    own = Settings(privacy=Privacy(user_key=SecretStr("of-our-own")))
    assert levels(judge_configuration(own))["privacy key"] is Level.OK


@pytest.mark.parametrize(
    ("http", "level"),
    [(Http(), Level.FAILURE), (Http(allow_anonymous=True), Level.WARNING), (Http(token=SecretStr("x" * 12)), Level.OK)],
    ids=["open", "meant-to-be-open", "token"],
)
def test_pages_beyond_this_machine(http: Http, level: Level) -> None:
    settings = Settings(streams=Streams(http_host="0.0.0.0"), http=http)
    found = list(judge_configuration(settings))
    assert levels(found)["http login"] is level
    assert "xxxx" not in str(found)


# The report.


async def test_a_question_without_an_answer_is_given_up() -> None:
    assert await asked(asyncio.sleep(60), 0.01) == Unanswered("no answer within 0.01 s")
    assert await asked(asyncio.sleep(0, 5), 1) == 5


async def _raise() -> None:
    raise ConnectionRefusedError(111, "Connection refused")


async def test_a_question_that_fails_says_why() -> None:
    answer = await asked(_raise(), 1)
    assert isinstance(answer, Unanswered)
    assert "Connection refused" in answer.why


def test_the_exit_status() -> None:
    fine, bad = ok("a", "b"), Finding(Level.FAILURE, "c", "d", "e")
    assert Examination((fine, Finding(Level.WARNING, "c", "d", "e")), True).status == 0
    assert Examination((fine, bad), True).status == 1
    assert Examination((fine, bad), False).status == 2


def test_the_report_for_people_and_for_programs() -> None:
    examined = Examination(
        (ok("fine thing", "b"), Finding(Level.WARNING, "w", "d", "e"), Finding(Level.FAILURE, "f", "[red]", "next")), True
    )
    out = io.StringIO()
    show(Console(file=out, width=100), examined, everything=False)
    text = out.getvalue()
    assert "1 failures, 1 warnings, 1 well (--all shows them)" in text
    assert text.index("failure") < text.index("warning")
    assert "[red]" in text, "words of servers are no markup"
    assert "fine thing" not in text
    show(Console(file=out, width=100), examined, everything=True)
    assert "fine thing" in out.getvalue()
    document = json.loads(as_document(examined))
    assert (document["status"], document["failures"], document["warnings"]) == (1, 1, 1)
    assert document["findings"][2] == {"level": "failure", "what": "f", "detail": "[red]", "do": "next"}


def test_words() -> None:
    assert [span(s) for s in (5, 119, 120, 3_600, 7_200, 172_800)] == ["5 s", "119 s", "2 min", "60 min", "2 h", "2 d"]
    assert names("abc") == "a, b, c"
    assert names("abcdefgh") == "a, b, c, d, e, f and 2 more"

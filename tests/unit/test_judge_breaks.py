"""Breaks of the pipeline as incidents: which notes are news, what is said, how they live, and how they read in Slack."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from alerts.demo.block_kit import problems
from alerts.detect.breaks import DIMENSIONS, Noted, judge_breaks, noted_in
from alerts.incidents.change import Change, ChangeKind, Severity
from alerts.incidents.incident import Incident, Subject
from alerts.incidents.life import Moment, advance
from alerts.notify.slack_blocks import Look, dashboard_link, message, reply
from alerts.rules import load_rules
from alerts.rules.model import PIPELINE
from streams.config import ConfigError, Settings
from streams.ingest.continuity import Break, Note
from streams.tables.windows import PartitionLedger
from tests.unit.judging import standard

RULE = standard("pipeline")
NOON = 1_795_435_200_000
SECOND, HOUR = 1_000, 3_600_000
OPENED, UPDATED, RESOLVED, REOPENED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED, ChangeKind.REOPENED
LOOK = Look("USD", "https://grafana.example/")


def noted(kind: Break = Break.RECORDS_GONE, at: int = NOON, *, partition: int = 0, times: int = 1, records: int = 50) -> Noted:
    return Noted("marketing.clicks", partition, kind, Note(times, records, at, "the log begins at offset 150"))


class World:
    """Ticks on the clock; times are epoch ms."""

    def __init__(self) -> None:
        self.known: dict[Subject, Incident] = {}
        self.told: list[Change] = []

    def tick(self, now: int, *found: Noted) -> list[ChangeKind]:
        at = datetime.fromtimestamp(now / 1000, UTC)
        moment = Moment(at, now, {"marketing.clicks:0": 7}, {PIPELINE: DIMENSIONS}, {})
        step = advance(self.known, [(RULE, judge_breaks(RULE, found, now))], moment)
        self.known |= step.incidents
        self.told += step.changes
        return [change.change for change in step.changes]


def test_a_break_opens_one_incident_that_says_what_where_how_many_and_what_to_do() -> None:
    world = World()
    assert world.tick(NOON + 5 * SECOND, noted(), noted(partition=3, at=NOON - 9 * SECOND, records=7)) == [OPENED]
    (change,) = world.told
    assert change.rule == "pipeline"
    assert change.key == {"topic": "marketing.clicks", "break": "records_gone"}
    assert change.severity is Severity.CRITICAL
    assert (change.measure, change.observed, change.expected.high) == ("records_gone", 57.0, 0.0)
    assert (change.window.start, change.window.to) == tuple(datetime.fromtimestamp(t / 1000, UTC) for t in (NOON - 9_000, NOON))
    assert change.offsets == {"marketing.clicks:0": 7}
    for words in (
        "before they were read",
        "marketing.clicks:0, marketing.clicks:3",
        "57 records",
        "the log begins at offset 150",
        "retention",
    ):
        assert words in change.explanation


def test_it_is_told_again_when_it_happened_again_and_only_then() -> None:
    world = World()
    world.tick(NOON, noted())
    assert [world.tick(NOON + i * 60 * SECOND, noted()) for i in range(1, 59)] == [[]] * 58
    assert world.tick(NOON + 59 * 60 * SECOND, noted(at=NOON + 3_539 * SECOND, times=2, records=80)) == [UPDATED]
    assert world.told[-1].observed == 80
    assert world.told[-1].seq == 2


def test_what_goes_on_happening_is_told_every_few_minutes() -> None:
    world = World()
    told = [world.tick(now := NOON + i * 10 * SECOND, noted(Break.IDS_FORGOTTEN, now, times=i + 1, records=1_000)) for i in range(61)]
    assert [i * 10 for i, kinds in enumerate(told) if kinds] == [0, RULE.update_every, 2 * RULE.update_every]


def test_it_ends_an_hour_after_the_last_time() -> None:
    world = World()
    world.tick(NOON, noted())
    world.tick(NOON + 30 * 60 * SECOND, noted(at=NOON + 30 * 60 * SECOND, times=2))
    quiet = NOON + 30 * 60 * SECOND + HOUR
    assert world.tick(quiet - SECOND, noted(at=NOON + 30 * 60 * SECOND, times=2)) == []
    assert world.tick(quiet, noted(at=NOON + 30 * 60 * SECOND, times=2)) == []
    assert world.tick(quiet + 10 * SECOND, noted(at=NOON + 30 * 60 * SECOND, times=2)) == [RESOLVED]
    assert world.told[-1].explanation.startswith("It did not happen again within 60 min.")
    assert world.tick(quiet + 20 * SECOND, noted(at=NOON + 30 * 60 * SECOND, times=2)) == []
    assert world.tick(quiet + 60 * SECOND, noted(at=quiet + 60 * SECOND, times=3)) == [REOPENED]


def test_a_leader_that_starts_does_not_tell_old_news() -> None:
    assert World().tick(NOON + HOUR, noted()) == []
    assert World().tick(NOON + HOUR - SECOND, noted()) == [OPENED]


def test_each_kind_and_topic_has_its_own_incident_however_many_there_are() -> None:
    world = World()
    found = [Noted(f"t-{i}", 0, kind, Note(1, 1, NOON, "")) for i in range(5) for kind in Break]
    world.tick(NOON, *found)
    assert {(c.key["topic"], c.key["break"]) for c in world.told} == {(n.topic, n.kind.value) for n in found}
    assert all(change.cube == PIPELINE for change in world.told)


def test_every_kind_is_told_by_the_standard_rule_and_lost_records_are_critical() -> None:
    critical = {line.kind for line in RULE.breaks if line.severity is Severity.CRITICAL}
    assert {line.kind for line in RULE.breaks} == set(Break)
    assert critical == {Break.RECORDS_GONE, Break.LOG_TRUNCATED, Break.IDS_FORGOTTEN}


def test_an_operator_leaves_a_kind_out_changes_a_severity_or_switches_the_rule_off() -> None:
    own = {"name": "pipeline", "breaks": [{"kind": "records_gone", "severity": "warning"}], "quiet": 60}
    (rule,) = [r for r in load_rules(Settings(rules=[own])) if r.name == "pipeline"]
    judgement = judge_breaks(rule, [noted(), noted(Break.PARTITIONS_ADDED)], NOON)
    assert [(v.measure, v.severity) for v in judgement.verdicts] == [("records_gone", Severity.WARNING)]
    assert judge_breaks(rule, [noted()], NOON + 60 * SECOND).verdicts == []
    assert "pipeline" not in [r.name for r in load_rules(Settings(rules=[{"name": "pipeline", "enabled": False}]))]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"name": "pipeline", "breaks": []}, "at least one kind"),
        ({"name": "pipeline", "breaks": [{"kind": "records_gone", "severity": "warning"}] * 2}, "each kind once"),
        ({"name": "pipeline", "cube": "campaign"}, "cube: must be pipeline"),
        ({"name": "traffic", "cube": "pipeline"}, "cube: must be pipeline"),
        ({"name": "pipeline", "breaks": [{"kind": "earthquake", "severity": "warning"}]}, "records_gone"),
    ],
)
def test_a_pipeline_rule_that_cannot_be_is_refused(entry: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        load_rules(Settings(rules=[entry]))


def test_notes_that_only_a_newer_version_knows_are_left_alone() -> None:
    notes = {"records_gone": Note(1, 5, NOON, "x").pack(), "swallowed_by_a_whale": Note(1, 5, NOON, "x").pack(), "topic_recreated": b"{"}
    ledger = PartitionLedger("marketing.clicks", 2, 0, 9, 10, 10, 0, 0, 0, None, None, notes)
    assert noted_in([ledger]) == [Noted("marketing.clicks", 2, Break.RECORDS_GONE, Note(1, 5, NOON, "x"))]


@pytest.mark.parametrize("kind", list(Break))
def test_slack_shows_every_kind_with_what_to_do(kind: Break) -> None:
    world = World()
    world.tick(NOON, noted(kind))
    world.tick(NOON + HOUR, noted(kind))
    world.tick(NOON + HOUR + 10 * SECOND, noted(kind))
    opened, resolved = world.told
    title = kind.value.replace("_", " ").capitalize()
    for change in (opened, resolved):
        content = message(change, LOOK)
        assert problems(content.blocks) == []
        everything = str(content)
        assert "xpected" not in everything
        assert f"{title} - marketing.clicks" in content.blocks[0]["text"]["text"]
    assert title in message(opened, LOOK).text
    assert "50" in message(opened, LOOK).text
    assert reply(resolved, LOOK, Severity.CRITICAL) == (
        f"marketing.clicks: {title[0].lower()}{title[1:]}: resolved after 1 h. It did not happen again."
    )
    link = dashboard_link(opened, LOOK)
    assert link is not None
    assert "var-" not in link
    assert opened.opened_at == datetime.fromtimestamp(NOON / 1000, UTC)
    assert resolved.resolved_at == opened.opened_at + timedelta(hours=1, seconds=10)

"""The life of incidents: they open once, are told in measure, resolve, reopen, and are not told twice for one cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.detect.judge import Direction, Judgement, Verdict
from alerts.incidents.change import Change, ChangeKind, Expected, Severity
from alerts.incidents.incident import Incident, Subject
from alerts.incidents.life import Moment, Step, advance
from alerts.incidents.masks import masks_of
from alerts.rules import Rule
from streams.config import DEFAULT_CUBES
from streams.tables.windows import RowKey
from tests.unit.judging import standard

TRAFFIC, TRACKING, BURN = standard("traffic"), standard("conversion_tracking"), standard("budget_burn")
EXHAUSTED = standard("budget_exhausted")
NOON = 1_795_435_200_000
ROWS: list[RowKey] = [("c-1",), ("c-2",), ("c-3",)]
OPENED, UPDATED, RESOLVED, REOPENED = ChangeKind.OPENED, ChangeKind.UPDATED, ChangeKind.RESOLVED, ChangeKind.REOPENED


def verdict(
    row: str = "c-1",
    now: int = 0,
    observed: float = 1_800.0,
    direction: Direction = Direction.SPIKE,
    severity: Severity = Severity.CRITICAL,
) -> Verdict:
    end = NOON + now * 1000
    return Verdict(
        row=(row,),
        direction=direction,
        severity=severity,
        measure="clicks",
        observed=observed,
        expected=Expected(low=400, mid=600, high=900),
        start=end - 20_000,
        end=end,
        explanation="Three times as many clicks as usual.",
        money_at_stake=Decimal("12.50"),
    )


TOTAL = TRAFFIC.model_copy(update={"cube": "total"})


def of_total(now: int, observed: float = 1_800.0) -> Judgement:
    """The one row of the cube `total` is abnormal."""
    return judgement(replace(verdict(now=now, observed=observed), row=()), rows=[()])


def judgement(*verdicts: Verdict, calm: bool = True, rows: Sequence[RowKey] = ROWS) -> Judgement:
    return Judgement(rows, list(verdicts), np.full(len(rows), calm), len(rows))


class World:
    """Ticks of 10 s; `now` counts seconds from noon, and so does the process' `clock`, which goes with it unless it is given."""

    def __init__(self) -> None:
        self.known: dict[Subject, Incident] = {}
        self.told: list[Change] = []

    def tick(self, now: int, *judged: tuple[Rule, Judgement], clock: int | None = None) -> list[ChangeKind]:
        step = self.step(now, *judged, clock=clock)
        self.known |= step.incidents
        self.told += step.changes
        return [change.change for change in step.changes]

    def step(self, now: int, *judged: tuple[Rule, Judgement], clock: int | None = None) -> Step:
        at = datetime(2026, 11, 23, 12, 0, 7, tzinfo=UTC) + timedelta(seconds=now if clock is None else clock)
        moment = Moment(at, NOON + now * 1000, {"marketing.clicks:0": 41}, DEFAULT_CUBES, {"c-1": {"name": "Spring sale"}})
        return advance(self.known, judged, moment)


def test_an_incident_opens_once_with_everything_that_the_contract_names() -> None:
    world = World()
    assert world.tick(0, (TRAFFIC, judgement(verdict()))) == [OPENED]
    assert world.tick(10, (TRAFFIC, judgement(verdict(now=10)))) == []
    (change,) = world.told
    assert change.incident_id.startswith("i-")
    assert (change.seq, change.rule, change.cube, change.key) == (1, "traffic", "campaign", {"campaign_id": "c-1"})
    assert (change.measure, change.observed, change.expected.mid) == ("clicks", 1_800.0, 600)
    assert change.window.to - change.window.start == timedelta(seconds=20)
    assert change.name == "Spring sale"
    assert change.offsets == {"marketing.clicks:0": 41}
    assert change.rule_version == TRAFFIC.version
    assert change.money_at_stake == Decimal("12.50")
    assert change.at == change.opened_at


def test_the_same_judgements_give_the_same_incident() -> None:
    first, second = (World().step(0, (TRAFFIC, judgement(verdict()))) for _ in range(2))
    assert first == second


def test_it_resolves_after_a_minute_of_calm_and_not_before() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    world.tick(10, (TRAFFIC, judgement(verdict(now=10))))
    assert [world.tick(now, (TRAFFIC, judgement())) for now in range(20, 80, 10)] == [[]] * 6
    assert world.tick(80, (TRAFFIC, judgement())) == [RESOLVED]
    resolved = world.told[-1]
    assert resolved.seq == 2
    assert resolved.resolved_at == resolved.at
    assert resolved.explanation.startswith("Back to normal after 30 s.")
    assert world.tick(90, (TRAFFIC, judgement())) == []


def test_a_relapse_within_the_hold_starts_the_minute_again() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    for now in range(10, 60, 10):
        world.tick(now, (TRAFFIC, judgement()))
    world.tick(60, (TRAFFIC, judgement(verdict(now=60))))
    assert [world.tick(now, (TRAFFIC, judgement())) for now in range(70, 130, 10)] == [[]] * 6
    assert world.tick(130, (TRAFFIC, judgement())) == [RESOLVED]


def test_undecided_keeps_it_open() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    assert [world.tick(now, (TRAFFIC, judgement(calm=False))) for now in range(10, 600, 10)] == [[]] * 59
    assert [world.tick(now, (TRAFFIC, judgement(rows=[]))) for now in range(600, 1_200, 10)] == [[]] * 60


def test_it_reopens_within_ten_minutes_and_is_a_new_one_later() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    for now in range(10, 80, 10):
        world.tick(now, (TRAFFIC, judgement()))
    assert world.tick(600, (TRAFFIC, judgement(verdict(now=600)))) == [REOPENED]
    assert [c.seq for c in world.told] == [1, 2, 3]
    assert len({c.incident_id for c in world.told}) == 1
    assert world.told[-1].resolved_at is None
    assert world.told[-1].opened_at == world.told[0].opened_at
    for now in range(610, 690, 10):
        world.tick(now, (TRAFFIC, judgement()))
    assert world.tick(2_000, (TRAFFIC, judgement(verdict(now=2_000)))) == [OPENED]
    assert world.told[-1].incident_id != world.told[0].incident_id
    assert world.told[-1].seq == 1


def test_updates_come_every_five_minutes_or_when_it_gets_much_worse_or_critical() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict(severity=Severity.WARNING))))
    quiet = [world.tick(now, (TRAFFIC, judgement(verdict(now=now, severity=Severity.WARNING)))) for now in range(10, 300, 10)]
    assert quiet == [[]] * 29
    assert world.tick(300, (TRAFFIC, judgement(verdict(now=300, severity=Severity.WARNING)))) == [UPDATED]
    assert world.tick(310, (TRAFFIC, judgement(verdict(now=310)))) == [UPDATED]
    assert world.told[-1].severity is Severity.CRITICAL
    assert world.tick(320, (TRAFFIC, judgement(verdict(now=320, observed=9_000.0)))) == []
    assert world.tick(370, (TRAFFIC, judgement(verdict(now=370, observed=9_000.0)))) == [UPDATED]


def test_updates_go_on_when_the_clock_is_set_back() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    assert world.tick(10, (TRAFFIC, judgement(verdict(now=10))), clock=-3_590) == [UPDATED]
    kinds = [world.tick(now, (TRAFFIC, judgement(verdict(now=now))), clock=now - 3_600) for now in range(20, 320, 10)]
    assert kinds == [[]] * 29 + [[UPDATED]]
    assert [change.seq for change in world.told] == [1, 2, 3]


def test_a_spike_of_traffic_explains_the_burn_for_as_long_as_windows_hold_it() -> None:
    world = World()
    burn = verdict(direction=Direction.BURN)
    assert world.tick(0, (TRAFFIC, judgement(verdict())), (BURN, judgement(burn))) == [OPENED]
    for now in range(10, 80, 10):
        world.tick(now, (TRAFFIC, judgement()), (BURN, judgement(burn)))
    assert [c.rule for c in world.told] == ["traffic", "traffic"]
    assert world.tick(1_000, (TRAFFIC, judgement()), (BURN, judgement(burn))) == []
    assert world.tick(4_000, (TRAFFIC, judgement()), (BURN, judgement(burn))) == [OPENED]


def test_a_drop_explains_missing_conversions_but_no_burn_and_only_on_its_own_key() -> None:
    world = World()
    drop = verdict(direction=Direction.DROP)
    judged = (
        (TRAFFIC, judgement(drop)),
        (TRACKING, judgement(drop, verdict("c-2", direction=Direction.DROP))),
        (BURN, judgement(verdict(direction=Direction.BURN))),
    )
    world.tick(0, *judged)
    assert [(c.rule, c.key["campaign_id"]) for c in world.told] == [
        ("traffic", "c-1"),
        ("conversion_tracking", "c-2"),
        ("budget_burn", "c-1"),
    ]


def test_an_open_incident_is_kept_when_an_inhibitor_comes_later() -> None:
    world = World()
    burn = verdict(direction=Direction.BURN)
    world.tick(0, (TRAFFIC, judgement()), (BURN, judgement(burn)))
    assert world.tick(10, (TRAFFIC, judgement(verdict())), (BURN, judgement(burn))) == [OPENED]
    assert world.tick(400, (TRAFFIC, judgement(verdict())), (BURN, judgement(burn))) == [UPDATED, UPDATED]


def test_a_new_level_that_lasts_becomes_normal() -> None:
    world = World()
    assert TRAFFIC.max_age is not None
    world.tick(0, (TRAFFIC, judgement(verdict())))
    kinds = [kind for now in range(10, TRAFFIC.max_age + 60, 10) for kind in world.tick(now, (TRAFFIC, judgement(verdict(now=now))))]
    assert RESOLVED in kinds
    assert "taken as normal" in next(c for c in world.told if c.change is RESOLVED).explanation


def test_an_incident_of_a_rule_that_is_gone_ends() -> None:
    world = World()
    world.tick(0, (TRAFFIC, judgement(verdict())))
    assert world.tick(10) == [RESOLVED]
    assert "not judged any more" in world.told[-1].explanation


def test_incidents_of_a_cube_that_the_rule_does_not_judge_any_more_end() -> None:
    world = World()
    by_channel = TRAFFIC.model_copy(update={"cube": "channel"})
    world.tick(0, (by_channel, judgement(verdict("search"), rows=[("search",)])), (BURN, judgement(verdict(direction=Direction.BURN))))
    assert world.tick(10, (TRAFFIC, judgement(verdict())), (BURN, judgement(verdict(direction=Direction.BURN)))) == [OPENED, RESOLVED]
    assert (world.told[-1].rule, world.told[-1].cube, world.told[-1].key) == ("traffic", "channel", {"channel": "search"})
    assert world.told[-1].explanation.startswith("The rule traffic judges the cube campaign now, so this incident ends.")
    assert world.tick(20, (TRAFFIC, judgement(verdict())), (BURN, judgement(verdict(direction=Direction.BURN)))) == []


def test_a_group_goes_on_when_its_rule_judges_another_cube() -> None:
    rows: list[RowKey] = [(f"c-{i}",) for i in range(40)]
    drops = [verdict(f"c-{i}", direction=Direction.DROP) for i in range(30)]
    world = World()
    assert world.tick(0, (TRAFFIC, judgement(*drops, rows=rows))) == [OPENED]
    by_channel = TRAFFIC.model_copy(update={"cube": "channel"})
    assert [world.tick(now, (by_channel, judgement(*drops, rows=rows))) for now in range(10, 60, 10)] == [[]] * 5
    # What spoke for many rows is the incident of the one row now.
    kinds = [kind for now in range(60, 140, 10) for kind in world.tick(now, (TOTAL, judgement(rows=[()])))]
    assert kinds == [RESOLVED]


def test_many_rows_at_once_are_one_incident_of_the_total() -> None:
    rows: list[RowKey] = [(f"c-{i}",) for i in range(40)]
    world = World()
    drops = [verdict(f"c-{i}", direction=Direction.DROP) for i in range(30)]
    assert world.tick(0, (TRAFFIC, judgement(*drops, rows=rows)), (TRACKING, judgement(*drops[:3], rows=rows))) == [OPENED]
    (change,) = world.told
    assert (change.cube, change.key, change.observed) == ("total", {}, 30.0)
    assert "30 of 40 rows" in change.explanation
    assert world.tick(10, (TRAFFIC, judgement(*drops[:20], rows=rows))) == []
    kinds = [world.tick(now, (TRAFFIC, judgement(rows=rows))) for now in range(20, 100, 10)]
    assert kinds == [[]] * 6 + [[RESOLVED]] + [[]]


def test_budgets_that_run_out_are_never_one_trouble() -> None:
    rows: list[RowKey] = [(f"c-{i}",) for i in range(30)]
    for at_once in (True, False):
        world = World()
        for tick in range(30):
            out = [verdict(f"c-{i}", tick * 3_600, direction=Direction.EXHAUSTED) for i in range(30 if at_once else tick + 1)]
            world.tick(tick * 3_600, (EXHAUSTED, judgement(*out, rows=rows)))
        opened = [change for change in world.told if change.change is OPENED]
        assert [(change.cube, change.key["campaign_id"]) for change in opened] == [("campaign", f"c-{i}") for i in range(30)]


def test_rows_that_go_wrong_one_after_another_are_incidents_of_their_own() -> None:
    rows: list[RowKey] = [(f"c-{i}",) for i in range(30)]
    world = World()
    for tick in range(30):
        burning = [verdict(f"c-{i}", tick * 600, direction=Direction.BURN) for i in range(tick + 1)]
        world.tick(tick * 600, (BURN, judgement(*burning, rows=rows)))
    assert [change.key for change in world.told if change.change is OPENED] == [{"campaign_id": f"c-{i}"} for i in range(30)]


def test_a_fault_that_is_seen_over_some_ticks_is_one_incident_and_goes_on_as_one() -> None:
    """Large campaigns are judged within seconds, small ones within minutes."""
    rows: list[RowKey] = [(f"c-{i}",) for i in range(40)]
    world = World()

    def tick(now: int, number: int) -> list[ChangeKind]:
        drops = [verdict(f"c-{i}", now, direction=Direction.DROP) for i in range(number)]
        return world.tick(now, (TRAFFIC, judgement(*drops, rows=rows)))

    assert tick(0, 5) == [OPENED] * 5
    assert tick(120, 8) == [OPENED] * 3
    assert tick(240, 20) == [OPENED]
    assert (world.told[-1].cube, world.told[-1].observed) == ("total", 20.0)
    # The rows that were first keep their own; all of them hold the group open, however long ago they began.
    kinds = [kind for now in range(250, 3_600, 10) for kind in tick(now, 20)]
    assert set(kinds) == {UPDATED}
    assert world.told[-1].cube == "total"
    for now in range(3_600, 3_670, 10):
        tick(now, 0)
    assert [change.change for change in world.told[-9:]] == [RESOLVED] * 9
    assert not any(incident.is_open for incident in world.known.values())


def test_a_few_rows_of_many_are_incidents_of_their_own() -> None:
    rows: list[RowKey] = [(f"c-{i}",) for i in range(400)]
    world = World()
    world.tick(0, (TRAFFIC, judgement(*(verdict(f"c-{i}") for i in range(30)), rows=rows)))
    assert len(world.told) == 30


def test_a_rule_on_the_total_has_incidents_like_any_other() -> None:
    world = World()
    assert world.tick(0, (TOTAL, of_total(0))) == [OPENED]
    assert [world.tick(now, (TOTAL, of_total(now))) for now in range(10, 300, 10)] == [[]] * 29
    assert world.tick(300, (TOTAL, of_total(300))) == [UPDATED]
    assert [world.tick(now, (TOTAL, judgement(rows=[()], calm=False))) for now in range(310, 490, 10)] == [[]] * 18
    assert [world.tick(now, (TOTAL, judgement(rows=[()]))) for now in range(490, 550, 10)] == [[]] * 6
    assert world.tick(550, (TOTAL, of_total(550))) == []
    assert [world.tick(now, (TOTAL, judgement(rows=[()]))) for now in range(560, 620, 10)] == [[]] * 6
    assert world.tick(620, (TOTAL, judgement(rows=[()]))) == [RESOLVED]
    assert [change.seq for change in world.told] == [1, 2, 3]
    (incident,) = world.known.values()
    assert not incident.is_open
    assert incident.newest == world.told[-1]


@given(
    phases=st.lists(st.tuples(st.sampled_from(["abnormal", "worse", "calm", "undecided"]), st.sampled_from([1, 5, 6, 7, 30])), max_size=8),
    cube=st.sampled_from(["total", "campaign"]),
)
@example(phases=[("abnormal", 1), ("calm", 6), ("abnormal", 1)], cube="total")
def test_what_is_stored_is_what_was_told_last_and_no_number_is_told_twice(phases: list[tuple[str, int]], cube: str) -> None:
    world = World()
    ticks = [tick for tick, lasts in phases for _ in range(lasts)]
    rule = TRAFFIC.model_copy(update={"cube": cube})
    row: RowKey = () if cube == "total" else ("c-1",)
    for number, tick in enumerate(ticks):
        now = number * 10
        abnormal = replace(verdict(now=now, observed=1_800.0 if tick == "abnormal" else 90_000.0), row=row)
        verdicts = [abnormal] if tick in ("abnormal", "worse") else []
        world.tick(now, (rule, judgement(*verdicts, calm=tick == "calm", rows=[row])))
    for identity in {change.incident_id for change in world.told}:
        told = [change for change in world.told if change.incident_id == identity]
        assert [change.seq for change in told] == list(range(1, len(told) + 1))
    assert [i.newest for i in world.known.values()] == world.told[-1:]
    assert [i.is_open for i in world.known.values()] == [change.change is not RESOLVED for change in world.told[-1:]]


def test_baselines_do_not_learn_incidents() -> None:
    world = World()
    rules = {"traffic": TRAFFIC, "budget_burn": BURN}
    world.tick(0, (TRAFFIC, judgement(verdict())), (BURN, judgement(verdict("c-2", direction=Direction.BURN))))
    masks = masks_of(world.known.values(), rules, "campaign", NOON + 30_000)
    assert list(masks) == [("c-1",)]
    assert (masks[("c-1",)][0].start, masks[("c-1",)][0].end) == (NOON - 140_000, NOON + 30_000)
    for now in range(10, 80, 10):
        world.tick(now, (TRAFFIC, judgement()))
    (mask,) = masks_of(world.known.values(), rules, "campaign", NOON + 500_000)[("c-1",)]
    assert mask.end == NOON + 10_000

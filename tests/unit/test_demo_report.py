"""Which incident the demo counts as a fault's, and what it holds against itself."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from alerts.demo.report import Outcome
from alerts.demo.screen import Lines, picture, render
from alerts.demo.story import Story
from streams.api.times import write_time
from streams.config import Settings, Topic
from streams.simulate.faults import Fault, FaultKind
from streams.simulate.lengths import read_duration
from streams.simulate.world import build_world

START = 1_795_400_000_000
SPIKE = Fault(FaultKind.TRAFFIC_SPIKE, "c-001", START, START + 120_000)


def incident(after_seconds: float, campaign_id: str | None = "c-001", **more: Any) -> dict[str, Any]:
    return {
        "incident_id": f"i-{after_seconds}",
        "change": "resolved",
        "rule": "traffic",
        "cube": "campaign" if campaign_id else "total",
        "key": {"campaign_id": campaign_id} if campaign_id else {},
        "opened_at": write_time(START + int(after_seconds * 1000)),
        "resolved_at": write_time(START + 300_000),
        "observed": 812.0,
        "expected": {"low": 80.0, "mid": 101.0, "high": 130.0},
        "measure": "clicks",
        "explanation": "Eight times the usual clicks.",
        **more,
    }


def outcome(incidents: list[dict[str, Any]], sent: int = 12, **entry: int) -> Outcome:
    partition = {
        "topic": "marketing.clicks",
        "partition": 0,
        "in": 12,
        "applied": 10,
        "duplicate": 1,
        "too_late": 0,
        "quarantined": 1,
        **entry,
    }
    return Outcome(
        settings=Settings(),
        seed=1,
        started_at=START - 90_000,
        live_at=START - 60_000,
        ended_at=START + 400_000,
        produced={Topic.CLICKS: sent},
        ledger={"partitions": [partition]},
        faults=[SPIKE],
        incidents=incidents,
        events_per_second=281.26,
        catch_up_rate=20_000,
        slack_messages=2,
    )


@pytest.mark.parametrize("after", [0, 45, 120, 180])
def test_an_incident_of_the_campaign_from_the_faults_start_to_a_minute_after_its_end_is_the_faults(after: float) -> None:
    run = outcome([incident(after)])
    assert run.problems() == []
    content = run.content()
    assert content["faults"][0]["incident_id"] == f"i-{after}"
    assert content["faults"][0]["seconds_to_incident"] == after
    assert content["incidents"][0]["fault"] == "traffic_spike"


@pytest.mark.parametrize(("after", "campaign_id"), [(-1, "c-001"), (181, "c-001"), (45, "c-002"), (45, None)])
def test_any_other_incident_is_nobodys_and_the_fault_has_none(after: float, campaign_id: str | None) -> None:
    run = outcome([incident(after, campaign_id)])
    assert [problem.split(" (")[0] for problem in run.problems()] == [
        "traffic_spike at c-001 got no incident",
        f"incident i-{after}",
    ]
    assert run.content()["faults"][0]["incident_id"] is None
    assert run.content()["incidents"][0]["fault"] is None


def test_the_first_of_several_incidents_is_the_one_that_found_it() -> None:
    run = outcome([incident(90), incident(20)])
    assert run.problems() == []
    assert run.content()["faults"][0]["incident_id"] == "i-20"


def test_late_and_unresolved_are_remarks_and_no_failure() -> None:
    run = outcome([incident(110, change="updated", resolved_at=None)])
    assert run.problems() == []
    assert [remark.split(" (")[0] for remark in run.remarks()] == [
        "traffic_spike at c-001 was found late, after 110 s",
        "incident i-110",
    ]


def test_records_that_the_ledger_does_not_know_are_a_problem() -> None:
    assert outcome([incident(20)], sent=13).problems() == ["marketing.clicks: 13 records were sent and 12 are in the ledger"]
    assert outcome([incident(20)], applied=9).problems() == ["the ledger of marketing.clicks:0 does not add up: 12 in, 11 accounted for"]


def test_the_report_has_the_fields_of_the_contract() -> None:
    content = outcome([incident(20)]).content()
    assert {"seed", "started_at", "ended_at", "produced", "ledger", "faults", "incidents", "events_per_second"} <= set(content)
    assert {"kind", "campaign_id", "started_at", "ended_at", "incident_id"} <= set(content["faults"][0])
    assert {"incident_id", "rule", "cube", "key", "opened_at", "resolved_at", "fault"} <= set(content["incidents"][0])
    assert content["produced"] == {"marketing.clicks": 12}


def story() -> Story:
    world = build_world(np.random.default_rng(1))
    told = Story(world=world, rates={"EUR": 1.08, "GBP": 1.27, "JPY": 0.0065}, phase="live", live_at=START, ends_at=START + 600_000)
    told.faults = [SPIKE]
    told.urls = {"streams": "http://127.0.0.1:8081", "alerts": "http://127.0.0.1:8082"}
    told.incidents = [incident(41, change="opened", resolved_at=None, name="Brand [bold]Search")]
    mark = write_time(START + 55_000)
    counts = {"applied": 980, "duplicate": 10, "too_late": 0, "quarantined": 10}
    told.note_ledger([{"topic": "marketing.clicks", "partition": 0, "in": 400, "watermark": None, **counts}], START + 50_000)
    told.note_ledger([{"topic": "marketing.clicks", "partition": 0, "in": 1_000, "watermark": mark, **counts}], START + 52_000)
    row = {"impressions": 1, "clicks": 4_321, "ctr": 0.1, "conversions": 12, "cvr": 0.02, "cpa": None, "roas": 2.5}
    told.rows = [{"campaign_id": c.campaign_id, "spend": told.budget(c.campaign_id) / 288 * 3, **row} for c in world.campaigns]
    return told


def test_the_screen_shows_rates_campaigns_burn_faults_incidents_and_addresses() -> None:
    console = Console(record=True, width=170, file=io.StringIO())
    console.print(render(story(), START + 60_000, 60))
    shown = console.export_text()
    for words in (
        "300 events/s",
        "watermark lag 5.0 s",
        "540 s left",
        "4,321",
        "3.00x",
        "traffic_spike",
        "after 41 s by traffic",
        "Brand [bold]Search",
    ):
        assert words in shown, words
    for url in ("http://127.0.0.1:8081/metrics", "http://127.0.0.1:8082/api/incidents"):
        assert url in shown
    assert "<svg" in picture(story(), START + 60_000)


@pytest.mark.parametrize("height", [10, 24, 100])
def test_the_screen_can_be_drawn_before_anything_is_known_and_on_any_terminal(height: int) -> None:
    empty = Story(world=build_world(np.random.default_rng(1)), rates={})
    for told in (empty, story()):
        Console(width=60, file=io.StringIO()).print(render(told, START, height))


def test_headless_a_line_tells_how_things_stand_every_ten_seconds() -> None:
    lines: list[str] = []
    view = Lines(story(), lines.append, lambda: START + 60_000)
    for now in range(START + 60_000, START + 80_001, 500):
        view.update(now)
    assert len(lines) == 3
    assert "live: 300 events/s, 1,000 in all, lag 5.0 s, 1 open incident" in lines[0]


@pytest.mark.parametrize(("text", "seconds"), [("600", 600), ("90s", 90), ("10m", 600), ("1h30m", 5_400), ("0.5h", 1_800), ("0", 0)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert read_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "10x", "m", "-5", "5 m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a length of time"):
        read_duration(text)

"""`campaignwatch plan`: the arithmetic is what it says, and more load never needs less."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any, cast

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.cli import build
from bench.scaling_document import DOCUMENT, inserted
from streams.config import Pane, Settings, Streams, Topic
from streams.planning.cluster import Assumptions, Plan, Sized, plan_for, size_for
from streams.planning.load import Load, cube_rows, distinct
from streams.planning.measured import between, load_coefficients
from streams.planning.tables import appended, dedupe_bytes, levels, reach_entries, row_bytes

MEASURED = load_coefficients()
#: Round numbers, the same for any number of campaigns.
EVEN = replace(
    MEASURED,
    worker_events_per_second=((1.0, 50_000.0),),
    redis_cpu_us_per_event=((1.0, 2.0),),
    redis_bytes_per_event=((1.0, 100.0),),
)


def planned(events: float, campaigns: int = 1_000, users: float = 100_000, **assumed: Any) -> Plan:
    return plan_for(Load(events, campaigns, users), Settings(), Assumptions(**assumed), EVEN)


def said(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(cast(Any, build()), ["plan", *words], env={"COLUMNS": "200"})
    return found.exit_code, found.output + (str(found.exception) if found.exception and found.exit_code else "")


def test_workers_partitions_and_kafka_follow_from_the_rate() -> None:
    plan = planned(200_000, headroom=1.3, replication=3)
    assert plan.value("worker_events_per_second") == 50_000
    assert plan.value("workers") == math.ceil(200_000 * 1.3 / 50_000) == 6
    assert plan.value("partitions") >= 12
    assert plan.value("kafka_bytes_per_second") == 200_000 * 450
    assert plan.value("kafka_disk_bytes") == 200_000 * 450 * Settings().kafka.retention_hours * 3_600 * 3


def test_each_figure_shows_its_arithmetic() -> None:
    lines = {line.name: line for section in planned(200_000).sections for line in section.lines}
    assert lines["workers"].how == "200,000 events/s x 1.3 headroom / 50,000 events/s a worker = 5.2, rounded up"
    assert "200,000 events/s x 450 B" in lines["kafka_bytes_per_second"].how
    assert all(line.how and line.shown for line in lines.values())


def sized(events: float, campaigns: int, users: float) -> Sized:
    return size_for(Load(events, campaigns, users), Settings(), Assumptions(partitions=8), EVEN)


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e6), st.integers(1, 100_000), st.floats(100, 1e7), st.floats(1, 4), st.sampled_from(["events", "campaigns", "users"]))
def test_more_load_never_needs_less(events: float, campaigns: int, users: float, times: float, of: str) -> None:
    few = sized(events, campaigns, users)
    many = sized(
        events * (times if of == "events" else 1),
        int(campaigns * (times if of == "campaigns" else 1)),
        users * (times if of == "users" else 1),
    )
    assert many.workers >= few.workers
    # The same users and events on more campaigns may come to slightly less: rows have less in them, and narrower integers hold it.
    assert many.held.all >= few.held.all * (0.9 if of == "campaigns" else 1 - 1e-9)
    if of != "campaigns" and many.masters.fits:
        assert few.masters.fits and many.masters.count >= few.masters.count


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 1e6), st.integers(1, 100_000), st.floats(1, 4))
def test_more_campaigns_or_events_never_need_fewer_workers_or_partitions(events: float, campaigns: int, times: float) -> None:
    def needed(events: float, campaigns: int) -> tuple[float, float]:
        # Exact measures alone, so that it is the workers and not the memory that ask for partitions; at the measured rates.
        load = Load(events, campaigns, 1, dict.fromkeys(Topic, 0.0), timed=0)
        found = size_for(load, Settings(), Assumptions(master_bytes=2.0**50), MEASURED)
        return found.workers, found.for_workers

    few, more = needed(events, campaigns), needed(events * times, campaigns)
    assert more[0] >= few[0] and more[1] >= few[1]
    with_campaigns = size_for(Load(events, int(campaigns * times), 1), Settings(), Assumptions(partitions=64), MEASURED)
    assert with_campaigns.workers >= size_for(Load(events, campaigns, 1), Settings(), Assumptions(partitions=64), MEASURED).workers


def test_rates_between_two_measured_points_lie_on_a_line_over_the_logarithm() -> None:
    points = ((10.0, 60.0), (1_000.0, 40.0), (10_000.0, 20.0))
    assert [between(points, at) for at in (1, 10, 100, 1_000, 10_000, 99_999)] == pytest.approx([60, 60, 50, 40, 20, 20])


def test_a_row_is_in_every_partition_that_has_one_of_its_campaigns() -> None:
    load = Load(1_000, 100, 1_000)
    of_creatives = cube_rows(load, ("campaign_id", "creative_id"), 4)
    assert (of_creatives.rows, of_creatives.partitions) == (400, 1), "four creatives of a hundred campaigns, each in one partition"
    of_channels = cube_rows(load, ("channel",), 4)
    assert of_channels.rows == 6
    assert of_channels.campaigns == pytest.approx(100 * 2 / 6), "two of six channels in a campaign"
    assert of_channels.stored == pytest.approx(6 * 4 * (1 - 0.75 ** (100 / 3)))


def test_bytes_of_a_row_of_ids_and_of_users() -> None:
    # Its number takes a byte; 2 x 10 clicks fit in one byte, 2 x 10 x 1,500,000 of cost in four.
    assert row_bytes({"clicks": 1, "spend": 1_500_000}, 10) == 1 + 1 + 4
    assert row_bytes({"clicks": 1, "spend": 1_500_000}, 1_000) == 1 + 2 + 8
    # Redis doubles a string that is appended to; above a MiB it adds one more.
    assert appended(1_000, EVEN) == pytest.approx(1_000 * EVEN.append_room)
    assert appended(2**30, EVEN) == 2**30 + 2**19
    assert distinct(1_000, 1e9) == pytest.approx(1_000, rel=1e-5) and distinct(1e9, 1_000) == pytest.approx(1_000)
    assert [reach_entries(users) for users in (0, 1, 4_096)] == [0, 1, 4_096], "every user leaves an entry until the row is dense"
    assert reach_entries(1e12) < 4_096 + 16_384 * 12, "registers can be raised only so often"
    # 900 clicks/s in one partition: 300 s are 270,000 ids of 24 B in parts of 160,000; an hour and two more are 14 of those.
    ids = dedupe_bytes(Load(10_000, 10, 1_000), Topic.CLICKS, Settings(), 1, EVEN)
    assert ids == pytest.approx(14 * 270 / 160 * (appended(160_000 * 24, EVEN) + EVEN.key_bytes))


def test_the_ladder_is_full_after_its_own_time_and_panes_of_a_day_come_one_by_one() -> None:
    ladder = Settings(streams=Streams(ladder=(Pane(size=10, keep=120), Pane(size=60, keep=600), Pane(size=86_400, keep=864_000))))
    ten, minute, day = levels(Load(1_000, 10, 1_000), Topic.CLICKS, ladder, 1, EVEN)
    assert [level.panes for level in (ten, minute, day)] == [13, 11, 11], "those that are kept, and the open one"
    assert [level.panes_after(300) for level in (ten, minute, day)] == [13, 5, 1]
    assert ten.campaigns.reach > 0 and ten.campaigns.times == 0, "clicks have users, and no dwell time"


def test_memory_is_the_sum_of_its_lines_and_masters_have_room_for_it_twice() -> None:
    plan = planned(100, 100, users=1_000, master_bytes=8.0 * 2**30)
    parts = [
        line.value
        for section in plan.sections
        for line in section.lines
        if line.name.startswith("redis_") and "Redis: memory" in section.title
    ]
    assert plan.value("redis_bytes") == pytest.approx(sum(parts) - plan.value("redis_bytes") - plan.value("redis_campaign_day_bytes"))
    assert plan.value("redis_masters") >= plan.value("redis_bytes") * 2 / (8 * 2**30)
    assert plan.value("redis_fullest_master_bytes") <= 4 * 2**30


def test_reach_goes_first_where_memory_is_short() -> None:
    plan = planned(20_000, 1_000, users=10_000_000)
    assert plan.alternatives[0].what == "no user_id on engagements"
    assert plan.alternatives[0].redis_bytes < plan.value("redis_bytes")
    together = next(other for other in plan.alternatives if other.what == "all of these together")
    assert together.redis_bytes < min(other.redis_bytes for other in plan.alternatives[:3])


@pytest.mark.parametrize(
    ("words", "warning"),
    [
        ("--events-per-second 1000 --campaigns 200000 --partitions 2", "extrapolated: 100,000 campaigns in a partition were not measured"),
        ("--events-per-second 1000000 --campaigns 1000", "extrapolated: at most 2 workers were measured together"),
        (
            "--events-per-second 50000 --campaigns 1000 --users 1000000 --master-memory 8",
            "extrapolated: Redis Cluster was run with 3 masters",
        ),
        ("--events-per-second 1000000 --campaigns 1000 --partitions 4", "Give more partitions"),
        ("--events-per-second 1000000 --campaigns 1000 --largest-campaign 0.5", "the largest campaign sends 500,000 events/s"),
        ("--events-per-second 100000 --campaigns 1000", "raise it, or the oldest are forgotten"),
        ("--events-per-second 1000 --campaigns 1000000 --partitions 2", "raise streams.max_rows_per_cube"),
        ("--events-per-second 1000000 --campaigns 50000", "no number of masters is enough"),
    ],
)
def test_limits_and_what_was_never_measured_are_said(words: str, warning: str) -> None:
    status, shown = said(*words.split())
    assert status == 0
    assert warning in " ".join(shown.split()), shown
    assert warning not in " ".join(said("--events-per-second", "100", "--campaigns", "100", "--users", "1000")[1].split())


def test_where_no_number_of_masters_is_enough_none_is_shown() -> None:
    words = ("--events-per-second", "1000000", "--campaigns", "50000")
    assert "none is enough" in said(*words)[1]
    assert json.loads(said(*words, "--json")[1])["figures"]["redis_masters"]["value"] is None


def test_the_command_says_what_a_million_events_a_second_need() -> None:
    status, shown = said("--events-per-second", "1000000", "--campaigns", "50000")
    assert status == 0
    for words in (
        "partitions of each topic",
        "workers, a core each",
        "Redis: memory once the ladder is full",
        "masters",
        "1,000,000 events/s x",
    ):
        assert words in shown
    assert "extrapolated" in shown, "nobody measured so many workers together"
    assert "Coefficients measured" in shown


def test_programs_get_plain_units() -> None:
    status, shown = said("--events-per-second", "10000", "--campaigns", "100", "--json")
    assert status == 0
    plan = json.loads(shown)
    assert plan["figures"]["kafka_bytes_per_second"]["value"] == 10_000 * 450
    assert plan["figures"]["workers"]["value"] == 1
    assert plan["coefficients"]["date"] == MEASURED.date


def test_a_coefficient_of_ones_own_takes_the_place_of_the_measured_one() -> None:
    words = ("--events-per-second", "100000", "--campaigns", "100", "--headroom", "1", "--json")
    _, shown = said(*words, "--set", "worker_events_per_second=10000")
    assert json.loads(shown)["figures"]["workers"]["value"] == 10


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--mix", "clicks=0"), "all parts are 0"),
        (("--mix", "views=1"), "there is no topic 'views'"),
        (("--with-user", "clicks=2"), "a part is from 0 to 1"),
        (("--values", "colour=3"), "there is no dimension 'colour'"),
        (("--values", "creative_id=4:2"), "with ALL at least N"),
        (("--set", "speed=1"), "there is no coefficient 'speed'"),
        (("--set", "key_bytes=0"), "must be above 0"),
        (("--set", "key_bytes=many"), "'many' is not a number"),
    ],
)
def test_what_cannot_be_planned_is_said(words: tuple[str, ...], complaint: str) -> None:
    status, shown = said("--events-per-second", "1000", "--campaigns", "10", *words)
    assert status != 0
    assert complaint in shown


def test_the_example_of_the_document_is_what_the_command_prints() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count("$ campaignwatch plan ") == text.count("<!-- plan: ") == 1
    assert inserted(text) == text, "run: python -m bench.scaling_document"

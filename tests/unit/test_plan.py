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
from streams.config import Settings
from streams.planning.cluster import Assumptions, Plan, plan_for
from streams.planning.load import Load
from streams.planning.measured import load_coefficients

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


@settings(max_examples=40, deadline=None)
@given(st.floats(1, 1e6), st.integers(1, 100_000), st.floats(1, 4))
def test_more_events_never_need_less(events: float, campaigns: int, times: float) -> None:
    few, many = planned(events, campaigns, partitions=64), planned(events * times, campaigns, partitions=64)
    for name in ("workers", "kafka_bytes_per_second", "kafka_disk_bytes"):
        assert many.value(name) >= few.value(name) or math.isclose(many.value(name), few.value(name)), name


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

"""What is made of a measured scale: the plan's coefficients and the picture."""

from __future__ import annotations

import json
from importlib import resources
from xml.etree import ElementTree

from bench.coefficients import brought_up_to_date
from bench.plot import svg
from bench.scale import table

SCALE = {
    "measured_at": "2026-11-25T09:00:00+00:00",
    "machine": {"processor": "some", "cores": 2, "python": "3.11.7"},
    "campaigns": [
        {"campaigns": 100, "events_per_second": 100_000, "redis_cpu_us_per_event": 0.5, "redis_bytes_per_event": 250},
        {"campaigns": 10_000, "events_per_second": 70_000, "redis_cpu_us_per_event": 1.5, "redis_bytes_per_event": 500},
    ],
    "workers": [
        {"workers": 1, "cores_each": None, "events_per_second": 100_000, "cpu_us_per_event": {"workers": 8.0}},
        {"workers": 2, "cores_each": 0.3, "events_per_second": 60_000, "cpu_us_per_event": {"workers": 9.0}},
    ],
    "ratios": {"10000": 0.7, "two_workers": 1.5},
    "goals": {"10000": 0.7, "two_workers": 1.8},
}


def test_the_plan_gets_what_was_measured_by_campaigns_in_a_partition() -> None:
    kept = json.loads(resources.files("streams.planning").joinpath("measured.json").read_text("utf-8"))
    found = brought_up_to_date(kept, SCALE)
    assert found["worker_events_per_second"] == [[25, 100_000], [2_500, 70_000]]
    assert found["redis_bytes_per_event"] == [[25, 250], [2_500, 500]]
    assert found["date"] == "2026-11-25"
    assert found.keys() == kept.keys() and found["key_bytes"] == kept["key_bytes"]


def test_noise_does_not_make_more_campaigns_cheaper() -> None:
    kept = json.loads(resources.files("streams.planning").joinpath("measured.json").read_text("utf-8"))
    noisy = [
        {"campaigns": 100, "events_per_second": 60_000, "redis_cpu_us_per_event": 2.0, "redis_bytes_per_event": 250},
        {"campaigns": 10_000, "events_per_second": 62_000, "redis_cpu_us_per_event": 1.5, "redis_bytes_per_event": 500},
    ]
    found = brought_up_to_date(kept, {**SCALE, "campaigns": noisy})
    assert found["worker_events_per_second"] == [[25, 60_000], [2_500, 60_000]]
    assert found["redis_cpu_us_per_event"] == [[25, 2.0], [2_500, 2.0]]


def test_the_picture_has_a_bar_for_every_measurement() -> None:
    drawn = ElementTree.fromstring(svg(SCALE))
    texts = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    for words in ("100", "10,000", "100,000", "70,000", "60,000", "2 x 0.3 core"):
        assert words in texts
    heights = [float(rect.attrib["height"]) for rect in list(drawn.iter("{http://www.w3.org/2000/svg}rect"))[1:]]
    assert heights[1] / heights[0] == 0.7


def test_goals_that_are_not_reached_are_said() -> None:
    caption = str(table(SCALE).caption)
    assert "10000: 0.70 (goal 0.7, reached)" in caption
    assert "two workers: 1.50 (goal 1.8, NOT REACHED)" in caption

"""The arithmetic of the scale benchmark, what the plan takes over from it, and its drawing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from bench.coefficients import section, taken_over
from bench.plot import drawing
from bench.results import save, spread
from bench.scale import Look, TooFewEvents, rate_of, table
from streams.errors import UserError
from streams.planning.measured import load_coefficients


def look(at: float, *applied: int) -> Look:
    """The workers use 0.8 of a core, the broker 0.1, Redis 0.2; an event is 100 bytes for Redis."""
    return Look(at, applied, {"workers": 0.8 * at, "broker": 0.1 * at, "redis": 0.2 * at}, 100 * sum(applied))


def test_a_rate_is_that_while_all_workers_are_ready_and_busy() -> None:
    # Until 3 s one worker reads alone; at 4 s most rows are there; from 8 s on only one partition has events left.
    looks = [look(0, 0, 0), look(2, 100, 100), look(4, 300, 300), look(6, 500, 600), look(8, 700, 1_000), look(10, 1_000, 1_000)]
    found = rate_of(looks, 1.0, (1_000, 1_000))
    assert found == rate_of(looks, 3.0, (1_000, 1_000)), "new rows are no measure, whoever reads them"
    assert (found.events_per_second, found.seconds) == pytest.approx((500 / 2, 2))
    used = (("workers", 0.8), ("broker", 0.1), ("redis", 0.2))
    assert found.cpu_us_per_event == pytest.approx({name: 1e6 * part * 2 / 500 for name, part in used})
    assert found.redis_bytes_per_event == pytest.approx(100)


@pytest.mark.parametrize("ready_at", [6.0, 99.0])
def test_what_was_nearly_read_before_all_were_ready_is_no_measurement(ready_at: float) -> None:
    looks = [look(0, 0, 0), look(2, 100, 100), look(6, 800, 800), look(7, 900, 900), look(8, 1_000, 1_000)]
    with pytest.raises(TooFewEvents, match="give more --events"):
        rate_of(looks, ready_at, (1_000, 1_000))


def point(campaigns: int, workers: int, rate: float, redis: float = 2.0) -> dict[str, Any]:
    return {
        "campaigns": campaigns,
        "workers": workers,
        "events_per_second": spread([rate * 0.9, rate, rate * 1.1]),
        "cpu_us_per_event": {name: spread([value]) for name, value in (("workers", 15.0), ("broker", 1.0), ("redis", redis))},
        "redis_bytes_per_event": spread([campaigns / 100]),
    }


POINTS = [
    point(100, 1, 60_000),
    point(100, 2, 100_000),
    point(10_000, 1, 62_000, 1.5),
    point(10_000, 2, 80_000),
    point(100_000, 1, 30_000, 5.0),
]
CONTENT = {"events": 1_000, "partitions": 4, "servers": "Apache Kafka 4.3.1 and Valkey 9.1.2", "points": POINTS}


@pytest.fixture
def scale(tmp_path: Path) -> dict[str, Any]:
    save("scale", CONTENT, tmp_path / "results.json")
    return section(tmp_path / "results.json")


def test_the_plan_takes_over_what_was_measured_of_one_worker(scale: dict[str, Any]) -> None:
    known = json.loads(json.dumps(asdict(load_coefficients())))
    found = taken_over(scale, known)
    # 62,000 at more campaigns is noise: more campaigns are never cheaper.
    assert found["worker_events_per_second"] == [[25, 60_000], [2_500, 60_000], [25_000, 30_000]]
    assert found["redis_cpu_us_per_event"] == [[25, 2.0], [2_500, 2.0], [25_000, 5.0]]
    assert found["redis_bytes_per_event"] == [[25, 1], [2_500, 100], [25_000, 1_000]]
    assert found["workers_measured"] == 2
    assert found["date"] == scale["measured_at"][:10] and "Valkey 9.1.2" in found["machine"]
    assert found.keys() == known.keys()
    assert {name: found[name] for name in ("key_bytes", "measures", "masters_measured")} == {
        name: known[name] for name in ("key_bytes", "measures", "masters_measured")
    }


def test_what_was_not_measured_cannot_be_taken_over(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run python -m bench\.scale first"):
        section(tmp_path / "results.json")


def test_the_drawing_has_a_line_for_each_number_of_workers_and_of_campaigns(scale: dict[str, Any]) -> None:
    root = ET.fromstring(drawing(scale))
    of = {"svg": "http://www.w3.org/2000/svg"}
    assert len(root.findall("svg:polyline", of)) == 2 + 3
    assert len(root.findall("svg:circle", of)) == 2 * len(POINTS)
    texts = {element.text for element in root.findall("svg:text", of)}
    assert {"1 worker", "2 workers", "100 campaigns", "100,000 campaigns"} <= texts
    # 110,000 is the highest run; the axis ends at the next round number, and higher rates are drawn higher.
    assert "120,000" in texts
    heights = {element.findtext("svg:title", "", of): float(element.get("cy", "")) for element in root.findall("svg:circle", of)}
    assert heights["1 worker: 60,000/s"] > heights["2 workers: 100,000/s"]


def test_the_table_sets_two_workers_against_one() -> None:
    rows = list(zip(*(column.cells for column in table(CONTENT).columns), strict=True))
    assert rows[1][:4] == ("100", "2", "100,000", "1.67")
    assert rows[0][4:] == ("0.90", "0.06", "0.12", "1")

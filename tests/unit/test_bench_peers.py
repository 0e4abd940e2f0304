"""The side-by-side benchmark: that a wrong answer is seen, a rate is what it says, and what is compared is comparable."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import ysb_events
from bench.clicks import Load, clicks
from bench.contenders import raw_fetch
from bench.contestants import CAMPAIGNWATCH, THROUGHPUT, YSB
from bench.jobs import THROUGHPUT_JOB, content
from bench.process_tree import ProcessTree
from bench.recordings import ADS, CLICKS, WINDOW, _noting, answer_of, closing_events, differences
from bench.report import markdown, table
from bench.runs import Run, failure, measured
from streams.app.worker import build_app
from streams.config import Kafka, Money, Settings
from streams.events.parsing import parse
from streams.events.refusal import Refusal
from streams.transport.batches import Consumer, ConsumerThread

START = 1_795_435_200_000


def test_what_must_come_out_is_every_click_once_and_its_cost_to_the_micro() -> None:
    expected: dict[tuple[str, int], tuple[int, int]] = {}
    sent = list(_noting(clicks(Load(rate=100.0), 3_000, START), CLICKS, expected))
    events = [json.loads(value) for _, value in sent]
    assert sum(count for count, _ in expected.values()) == 3_000
    assert sum(micros for _, micros in expected.values()) == sum(round(float(event["cost"]) * 100) for event in events) * 10_000
    one = events[7]
    cell = one["campaign_id"], one["occurred_at"] - one["occurred_at"] % WINDOW
    assert expected[cell][0] == sum(e["campaign_id"] == cell[0] and cell[1] <= e["occurred_at"] < cell[1] + WINDOW for e in events)


def test_of_the_ads_only_views_count_and_for_the_campaign_of_the_ad() -> None:
    expected: dict[tuple[str, int], tuple[int, int]] = {}
    events = [json.loads(value) for _, value in _noting(ysb_events.events(1_000.0, 3_000, START), ADS, expected)]
    views = Counter(ysb_events.ADS[e["creative_id"]] for e in events if e["kind"] == "view")
    found: Counter[str] = Counter()
    for (campaign, _), (count, _) in expected.items():
        found[campaign] += count
    assert found == views
    assert len(set(ysb_events.ADS.values())) == 100
    assert len(ysb_events.ADS) == 1_000


@pytest.mark.parametrize("kind", [CLICKS, ADS], ids=["clicks", "ads"])
def test_closing_events_are_one_that_counts_for_every_key(kind: Any) -> None:
    closing = list(closing_events(kind, START, 5))
    assert len({key for key, _ in closing}) == len(closing) == kind.keys
    assert all(kind.counts(json.loads(value)) is not None for _, value in closing)


@pytest.mark.parametrize("kind", [CLICKS, ADS], ids=["clicks", "ads"])
def test_campaignwatch_accepts_every_event_that_is_measured_with(kind: Any) -> None:
    for key, value in kind.events(300, START, 0):
        assert not isinstance(parse(kind.topic, value, key, Money()), Refusal)


EXPECTED = {("a", START): (2, 1_500_000), ("b", START): (1, 0)}


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([["a", START, 2, 1.4999999999], ["b", START, 1, 0.0]], 0),
        ([["a", START, 2, 1.5], ["b", START, 1, 0.0], ["a", START + WINDOW, 9, 9.0]], 0),
        ([["a", START, 2, 1.5]], 1),
        ([["a", START, 2, 1.51], ["b", START, 1, 0.0]], 1),
        ([["a", START, 3, 1.5], ["b", START, 0, 0.0]], 2),
        ([["a", START, 2, 1.5], ["a", START, 2, 1.5], ["b", START, 1, 0.0]], 1),
        ([["a", START, 2, 1.5], ["b", START, 1, 0.0], ["c", START, 1, 0.0]], 1),
        ([["a", START - WINDOW, 2, 1.5], ["b", START, 1, 0.0]], 2),
    ],
    ids=["right but for float dust", "the closing window is nobody's", "missing", "a cent", "a count", "twice", "made up", "elsewhere"],
)
def test_an_answer_is_judged_cell_by_cell(rows: list[list[object]], wrong: int) -> None:
    assert len(differences(EXPECTED, answer_of(rows), START + WINDOW)) == wrong


def test_a_rate_leaves_out_starting_up_and_cpu_is_that_of_the_same_time() -> None:
    run = measured(100.0, [(110.0, 0), (112.0, 1_000), (114.0, 4_000)], [(105.0, 5.0), (115.0, 25.0)], [(100.0, 0.0), (120.0, 2.0)])
    assert (run.events_per_second, run.seconds, run.start_up_seconds) == (1_000.0, 4.0, 10.0)
    assert run.cpu_seconds_per_million == pytest.approx(8.0 / 4_000 * 1e6)
    assert run.servers_cpu_seconds_per_million == pytest.approx(0.4 / 4_000 * 1e6)


def test_a_run_that_was_mostly_over_before_it_could_be_watched_has_no_rate() -> None:
    run = measured(0.0, [(1.0, 900), (1.1, 1_000)], [(0.0, 0.0)], [(0.0, 0.0)])
    assert run.failed
    assert run.events_per_second == 0.0


def a_run(rate: float, *wrong: str) -> Run:
    return Run(rate, 10.0, 1.0, 8.0, 1.0, wrong)


def a_section(**runs: list[Run]) -> dict[str, Any]:
    entered = [contender for contender in THROUGHPUT if contender.name in runs]
    return content(THROUGHPUT_JOB, entered, runs, dict.fromkeys(runs, 1_000))


def test_ratios_are_of_medians_and_goals_say_whether_they_are_reached() -> None:
    section = a_section(
        raw=[a_run(500), a_run(400), a_run(400)],
        campaignwatch=[a_run(90), a_run(200), a_run(210)],
        faust=[a_run(10)] * 3,
        bytewax=[a_run(100)] * 3,
        quix=[a_run(50)] * 3,
    )
    assert section["ratios"] == {
        "vs_plain_faust": 20.0,
        "vs_best_python_peer": 2.0,
        "vs_fetch_ceiling": 0.5,
        "vs_bytewax": 2.0,
        "vs_quix": 4.0,
    }
    assert [goal["reached"] for goal in section["goals"].values()] == [True, True, True]
    own = section["results"][1]
    assert (own["system"], own["events_per_second"], own["spread"]["runs"]) == (CAMPAIGNWATCH, 200, [90, 200, 210])


def test_a_wrong_answer_is_marked_and_its_rate_is_no_measure() -> None:
    section = a_section(
        campaignwatch=[a_run(200)], bytewax=[a_run(100), a_run(100, "c-1 at 0: nothing, should be 1 events")], quix=[a_run(50)]
    )
    assert section["ratios"]["vs_best_python_peer"] == 4.0
    assert [result["correct"] for result in section["results"]] == [True, False, True]
    shown = Console(width=150, file=io.StringIO(), record=True)
    shown.print(table(section))
    line = next(line for line in shown.export_text().splitlines() if "Bytewax" in line)
    assert "WRONG" in line


def test_if_campaignwatch_itself_is_wrong_there_are_no_ratios() -> None:
    assert a_section(campaignwatch=[a_run(200, "c-1 at 0")], quix=[a_run(50)])["ratios"] == {}


def test_a_contender_that_cannot_run_is_shown_with_the_reason() -> None:
    section = a_section(campaignwatch=[a_run(200)], flink=[failure("flink: no mvn on PATH")])
    section |= {
        "machine": {"processor": "p", "cores": 2, "memory_gib": 8, "system": "s", "python": "3"},
        "measured_at": "2026-11-25T10:00:00",
    }
    text = markdown(section)
    assert "| PyFlink SQL (JVM) | failed |" in text
    assert "no mvn on PATH" in text
    assert "2026-11-25" in text
    # Every line of the table has as many columns.
    assert len({line.count("|") for line in text.splitlines() if line.startswith("|")}) == 1


def test_every_contender_has_its_program_and_says_what_it_does() -> None:
    programs = Path(__file__).parents[2] / "bench" / "contenders"
    for contender in (*THROUGHPUT, *YSB):
        assert contender.does
        if contender.program is None:
            assert contender.name == CAMPAIGNWATCH
        else:
            # They run where the product is not installed.
            source = (programs / f"{contender.program}.py").read_text(encoding="utf-8")
            imported = re.findall(r"^(?:from|import) ((?:streams|alerts|bench)\S*)", source, re.MULTILINE)
            assert imported
            assert all(module.startswith("bench.contenders.") for module in imported)


async def test_the_raw_ceiling_fetches_as_a_worker_does() -> None:
    settings = Settings(kafka=Kafka(bootstrap_servers="127.0.0.1:1"))
    app = build_app(settings)
    consumer = ConsumerThread(app.consumer if isinstance(app.consumer, Consumer) else Consumer(app.transport, callback=None, app=app))
    made = consumer._create_worker_consumer(app.transport)
    assert {
        "fetch_max_wait_ms": made._fetch_max_wait_ms,
        "max_partition_fetch_bytes": made._max_partition_fetch_bytes,
        "check_crcs": made._check_crcs,
        "max_poll_records": made._max_poll_records,
    } == raw_fetch.FETCH


def test_processor_time_of_children_counts_and_is_not_forgotten_when_they_end() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    code = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {burn!r}])\nsys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as process:
        tree, seen = ProcessTree(process.pid), 0.0
        while seen < 0.25:
            now = tree.cpu_seconds()
            assert now >= seen
            seen = now
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        assert tree.cpu_seconds() >= seen

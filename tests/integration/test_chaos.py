"""The chaos itself: a short run leaves the tables as the log says, and bugs that are planted in the product are found."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from tests.chaos.command import run_chaos, run_planted
from tests.chaos.fleet import ROOT
from tests.chaos.report import Report
from tests.chaos.rounds import Options

pytestmark = pytest.mark.timeout(400)


def short(seed: int, rounds: int) -> Options:
    return Options(seed, rounds, rate=100, seconds=3.0)


def run(options: Options, kafka: str, faults: list[str]) -> tuple[Report, str]:
    said = io.StringIO()
    report = run_chaos(options, kafka, "single", faults, Console(file=said, width=200))
    return report, said.getvalue()


def test_the_tables_are_what_the_log_says_after_kills_of_workers_and_redis() -> None:
    report, said = run(short(4, 2), "embedded", ["kill-worker", "restore-redis", "kill-redis", "deaf-redis", "kill-leader"])
    content = report.content()
    assert report.good, said
    assert (content["rounds"], content["lost"], content["doubled"]) == (2, 0, 0)
    assert content["events"] > 300
    assert sum(content["kills"].values()) >= 1
    assert content["max_catch_up_s"] > 0
    assert "equal" in said


@pytest.mark.apache
def test_the_tables_are_what_the_log_says_after_kills_of_the_broker() -> None:
    report, said = run(short(3, 2), "apache", ["kill-kafka", "cut-kafka", "kill-worker"])
    assert report.good, said
    assert report.kills["kafka"] >= 1


@pytest.mark.parametrize("name", ["panes-not-loaded", "quarantine-not-written", "revisions-forgotten"])
def test_a_planted_bug_is_found(name: str) -> None:
    said = io.StringIO()
    report = run_planted(name, short(5, 3), "embedded", "single", [], Console(file=said, width=200))
    assert report.rounds, said.getvalue()
    assert not report.good, said.getvalue()
    assert report.rounds[-1].differences


def test_the_command_tells_of_its_faults_and_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    listed = subprocess.run([sys.executable, "-m", "tests.chaos", "--list-faults"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "kill-worker" in listed.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "tests.chaos", "--kafka", "embedded", "--faults", "kill-kafka", "--report", str(tmp_path / "r.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert "a broker that keeps its log" in refused.stderr
    assert not (tmp_path / "r.json").exists()


def test_the_report_has_what_the_contract_names(tmp_path: Path) -> None:
    Report(7, "embedded", "single").write(tmp_path / "deep" / "report.json")
    content = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert {"seed", "rounds", "kills", "events", "lost", "doubled", "max_catch_up_s"} <= content.keys()

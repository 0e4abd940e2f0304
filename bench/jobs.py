"""Running a job: every contender in turn, and that several times over, so that what changes on the machine meets all of them alike."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import ysb_events
from bench.contestants import CAMPAIGNWATCH, PLAIN_FAUST, PYTHON_PEERS, RAW, THROUGHPUT, YSB, Contender
from bench.environments import EnvironmentMissing
from bench.programs import Arena, prepared, run_program
from bench.recordings import ADS, CLICKS, Kind, Recording, recorded
from bench.results import spread
from bench.runs import Run, failure
from bench.servers import PARTITIONS, servers, settings_for
from bench.worker_runs import run_worker

#: Fewer are over before anything can be measured.
_FEWEST = 2_000
#: What the project wants to reach: ratio -> at least.
GOALS = {"vs_plain_faust": 10.0, "vs_best_python_peer": 1.5, "vs_fetch_ceiling": 0.4}


@dataclass(frozen=True)
class Job:
    """What is to be done, on which events, by whom."""

    name: str
    title: str
    kind: Kind
    contenders: tuple[Contender, ...]


THROUGHPUT_JOB = Job("throughput", "KPIs of clicks per 10 s", CLICKS, THROUGHPUT)
YSB_JOB = Job("ysb", "Yahoo Streaming Benchmark: views per campaign and 10 s", ADS, YSB)


@dataclass(frozen=True)
class Options:
    """How to run it."""

    events: int = 3_000_000
    runs: int = 3
    #: Names of those that take part; empty: all.
    contenders: tuple[str, ...] = ()
    here: bool = False


def run_job(job: Job, options: Options, say: Callable[[str], object]) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the job's section in the results. `say` is told what goes on."""
    entered = [c for c in job.contenders if not options.contenders or c.name in options.contenders]
    with servers() as (kafka, redis), tempfile.TemporaryDirectory(prefix="campaignwatch-bench-") as directory:
        ads = Path(directory) / "ads.json"
        ads.write_text(json.dumps(ysb_events.ADS), encoding="utf-8")
        arena = Arena(kafka, redis, ads, here=options.here)
        absent = _prepare(entered, arena, say)
        recordings: dict[int, Recording] = {}
        for contender in entered:
            count = _events(contender, options)
            if count not in recordings:
                say(f"{job.name}: recording {count:,} events")
                recordings[count] = recorded(settings_for(kafka, redis, f"{job.name}-{count}"), job.kind, count)
        # Whoever reads a topic first would pay for bringing it into the page cache.
        for recording in recordings.values():
            run_program(_reader_of(job), recording, arena)
        runs: dict[str, list[Run]] = {contender.name: [] for contender in entered}
        for number in range(options.runs):
            for contender in entered:
                if contender.name in absent:
                    run = failure(absent[contender.name])
                else:
                    recording = recordings[_events(contender, options)]
                    run = run_worker(recording, arena) if contender.program is None else run_program(contender, recording, arena)
                runs[contender.name].append(run)
                say(f"{job.name} {number + 1}/{options.runs}: {contender.title}: {_told(run)}")
    return content(job, entered, runs, {c.name: recordings[_events(c, options)].events for c in entered})


def _prepare(entered: Sequence[Contender], arena: Arena, say: Callable[[str], object]) -> dict[str, str]:
    """Install what is missing; whom it cannot be installed for, and why."""
    absent = {}
    for contender in entered:
        if contender.environment is not None:
            say(f"{contender.title}: looking after its environment")
        try:
            prepared(contender, arena)
        except EnvironmentMissing as missing:
            absent[contender.name] = str(missing)
    return absent


def _events(contender: Contender, options: Options) -> int:
    return max(min(_FEWEST, options.events), int(options.events * contender.share))


def _reader_of(job: Job) -> Contender:
    return next(contender for contender in job.contenders if contender.name == RAW)


def _told(run: Run) -> str:
    if run.failed:
        return f"FAILED: {run.failed}"
    return f"{run.events_per_second:,.0f} events/s" + (f", WRONG: {run.wrong[0]} and {len(run.wrong) - 1} more" if run.wrong else "")


def content(job: Job, entered: Sequence[Contender], runs: Mapping[str, Sequence[Run]], events: Mapping[str, int]) -> dict[str, Any]:
    """The section in the results."""
    results = [_result(job, contender, runs[contender.name], events[contender.name]) for contender in entered]
    ratios = ratios_of(results)
    return {
        "title": job.title,
        "partitions": PARTITIONS,
        "results": results,
        "ratios": ratios,
        "goals": {name: {"at_least": goal, "reached": ratios[name] >= goal} for name, goal in GOALS.items() if name in ratios},
    }


def _result(job: Job, contender: Contender, runs: Sequence[Run], events: int) -> dict[str, Any]:
    good = [run for run in runs if not run.failed]
    found: dict[str, Any] = {
        "system": contender.name,
        "title": contender.title,
        "job": job.name,
        "does": contender.does,
        "packages": list(contender.environment.requirements) if contender.environment is not None else [],
        "events": events,
        "correct": (not any(run.wrong for run in good) and len(good) == len(runs)) if contender.answers else None,
        "wrong": [sentence for run in good for sentence in run.wrong[:3]],
        "failed": [run.failed for run in runs if run.failed],
        "events_per_second": None,
    }
    if good:
        rates = spread([round(run.events_per_second) for run in good])
        found["events_per_second"] = rates["median"]
        found["spread"] = rates
        for field in dataclasses.fields(Run):
            if field.name in ("seconds", "start_up_seconds", "cpu_seconds_per_million", "servers_cpu_seconds_per_million"):
                found[field.name] = round(statistics.median(getattr(run, field.name) for run in good), 2)
    return found


def ratios_of(results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Campaignwatch's median rate over those of the others, those there are. A peer whose answer is wrong is no measure of anything."""
    rates = {r["system"]: r["events_per_second"] for r in results if r["events_per_second"] and r["correct"] is not False}
    own = rates.get(CAMPAIGNWATCH)
    if own is None:
        return {}
    peers = [rates[name] for name in PYTHON_PEERS if name in rates]
    against = {
        "vs_plain_faust": rates.get(PLAIN_FAUST),
        "vs_best_python_peer": max(peers, default=None),
        "vs_fetch_ceiling": rates.get(RAW),
    }
    named = {f"vs_{name}": rate for name, rate in rates.items() if name not in (CAMPAIGNWATCH, RAW, PLAIN_FAUST)}
    return {name: round(own / rate, 3) for name, rate in {**against, **named}.items() if rate is not None}

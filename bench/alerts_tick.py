"""How long the alerts process takes for one look at all campaigns: every default rule, tables and registry in a real Redis.

    python -m bench.alerts_tick                    # 10,000 and 100,000 campaigns; some minutes, most of it filling tables
    python -m bench.alerts_tick --quick            # 2,000 campaigns
    python -m bench.alerts_tick --campaigns 10000 --profile docs/benchmarks-alerts-profile.txt

Between two ticks the owners of the partitions apply the next ten seconds of all campaigns. The first tick reads hours of the past; it is
told apart from those behind it. One campaign in 200 is in trouble from the second tick on.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import io
import pstats
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from alerts.app.evaluator import Evaluator
from alerts.app.lease import Lease
from alerts.app.metrics import STAGES, AlertsMetrics
from alerts.incidents.store import IncidentStore
from alerts.rules.load import load_rules
from bench.campaign_history import Campaigns
from bench.results import save, spread
from bench.servers import PARTITIONS
from streams.config import Alerts, Kafka, Settings
from streams.config import Redis as RedisSettings
from streams.embedded import EmbeddedRedis
from streams.redis_client import connect
from streams.tables.reader import TableReader

#: Seconds that a tick may take, by campaigns.
GOALS = {10_000: 1.0, 100_000: 8.0}
#: One campaign in 200 is in trouble.
_ABNORMAL = 0.005
#: Ticks behind the first: a minute ends twice or more, a quarter of an hour once.
_TICKS = 12
#: Lines of the profile.
_LINES = 25


@dataclass(frozen=True, slots=True)
class Tick:
    """Seconds of a tick: all, and its parts."""

    seconds: float
    read: float
    judge: float
    write: float


async def measure(campaigns: int, ticks: int, profile: Path | None = None, *, by_profile: bool) -> dict[str, Any]:
    """The first tick and `ticks` more over tables of so many campaigns; with `profile` a few more under the profiler."""
    with EmbeddedRedis(append_only="everysec") as server:
        settings = Settings(
            kafka=Kafka(partitions=PARTITIONS),
            redis=RedisSettings(url=server.url),
            alerts=Alerts(lease=3_600),
        )
        rules = load_rules(settings)
        filling, reading = Redis.from_url(server.url), connect(settings)
        try:
            tables = Campaigns(filling, settings, campaigns, _ABNORMAL)
            await tables.fill(by_profile=by_profile)
            token = await Lease(reading, settings, "bench").acquire()
            assert token is not None
            metrics = AlertsMetrics(rules)
            evaluator = Evaluator(settings, rules, TableReader(reading, settings), IncidentStore(reading, settings), metrics, token)
            first = await _tick(evaluator, metrics, tables)
            later = []
            for _ in range(ticks):
                await tables.advance()
                later.append(await _tick(evaluator, metrics, tables))
            rows = {
                rule.name: int(metrics.registry.get_sample_value("campaignwatch_alerts_rows_judged", {"rule": rule.name}) or 0)
                for rule in rules
            }
            opened = sum(1 for i in evaluator._all.values() if i.is_open)
            if profile is not None:
                await _profile(evaluator, metrics, tables, profile, campaigns)
        finally:
            await filling.aclose()
            await reading.aclose()
    goal = GOALS.get(campaigns)
    whole = spread([tick.seconds for tick in later])
    return {
        "campaigns": campaigns,
        "paced_by_profile": by_profile,
        "rows_judged": rows,
        "open_incidents": opened,
        "first_tick_s": asdict(first),
        "tick_s": whole,
        "parts_median_s": {stage: statistics.median(getattr(tick, stage) for tick in later) for stage in STAGES},
        "goal_s": goal,
        "met": goal is None or float(whole["highest"]) < goal,  # type: ignore[arg-type]
    }


async def _tick(evaluator: Evaluator, metrics: AlertsMetrics, tables: Campaigns) -> Tick:
    at = datetime.fromtimestamp(tables.end / 1000 + tables.settings.streams.lateness + 1, UTC)
    before = _parts(metrics)
    began = time.perf_counter()
    outcome = await evaluator.tick(at)
    seconds = time.perf_counter() - began
    assert outcome == "judged", outcome
    return Tick(seconds, *(now - then for now, then in zip(_parts(metrics), before, strict=True)))


def _parts(metrics: AlertsMetrics) -> list[float]:
    name = "campaignwatch_alerts_tick_stage_seconds_sum"
    return [metrics.registry.get_sample_value(name, {"stage": stage}) or 0.0 for stage in STAGES]


async def _profile(evaluator: Evaluator, metrics: AlertsMetrics, tables: Campaigns, path: Path, campaigns: int) -> None:
    """Six more ticks, so that a minute ends within, and where their time goes."""
    profiler = cProfile.Profile()
    with _in_this_thread():
        for _ in range(6):
            await tables.advance()
            profiler.enable()
            await _tick(evaluator, metrics, tables)
            profiler.disable()
    text = io.StringIO()
    stats = pstats.Stats(profiler, stream=text)
    stats.strip_dirs().sort_stats("tottime").print_stats(_LINES)
    stats.sort_stats("cumulative").print_stats(_LINES)
    lines = "\n".join(line.rstrip() for line in text.getvalue().splitlines() if line.strip())
    await asyncio.to_thread(
        path.write_text,
        f"Six ticks of the alerts process over {campaigns:,} campaigns, all default rules (cProfile)\n{lines}\n",
        encoding="utf-8",
    )


@contextlib.contextmanager
def _in_this_thread() -> Iterator[None]:
    """A profiler sees one thread only."""

    async def here(work: Callable[..., Any], *arguments: Any) -> Any:
        return work(*arguments)

    with mock.patch.object(asyncio, "to_thread", here):
        yield


def print_results(console: Console, results: Sequence[dict[str, Any]]) -> None:
    """A line for each number of campaigns."""
    table = Table(title="A tick of the alerts process, all default rules, seconds")
    for head in ("campaigns", "first tick", "median", "most", "read", "judge", "write", "open incidents", "goal", "met"):
        table.add_column(head, justify="right")
    for each in results:
        parts = [f"{each['parts_median_s'][stage]:.3f}" for stage in STAGES]
        table.add_row(
            f"{each['campaigns']:,}",
            f"{each['first_tick_s']['seconds']:.2f}",
            f"{each['tick_s']['median']:.3f}",
            f"{each['tick_s']['highest']:.3f}",
            *parts,
            str(each["open_incidents"]),
            f"< {each['goal_s']:g}" if each["goal_s"] else "",
            "yes" if each["met"] else "NO",
        )
    console.print(table)


def run(*, quick: bool = False, campaigns: Sequence[int] = (), profile: Path | None = None) -> dict[str, Any]:
    """Measure, print, and return the content of the section `alerts_tick`."""
    console = Console()
    numbers = campaigns or ([2_000] if quick else sorted(GOALS))
    results = []
    for number in numbers:
        with console.status(f"{number:,} campaigns: filling tables, then ticks"):
            # A week of hours of 100,000 campaigns would take gigabytes of Redis.
            results.append(
                asyncio.run(
                    measure(number, 3 if quick else _TICKS, profile if number == numbers[-1] else None, by_profile=number <= 10_000)
                )
            )
    print_results(console, results)
    return {"ticks": results}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.alerts_tick", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--campaigns", type=int, action="append", default=[], help="how many; may be repeated (default 10000 and 100000)")
    parser.add_argument("--quick", action="store_true", help="a trial of under a minute with 2,000 campaigns; keeps no results")
    parser.add_argument("--profile", type=Path, help="also write to this file where the time of six ticks goes")
    parser.add_argument("--no-save", action="store_true", help="leave bench/results.json as it is")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick, campaigns=arguments.campaigns, profile=arguments.profile)
    if not (arguments.quick or arguments.no_save):
        save("alerts_tick", found)


if __name__ == "__main__":
    main()

"""What `campaignwatch plan` says of Redis' memory, held against a real Redis that was filled with the same load.

    python -m bench.redis_memory --quick     # a small load, half a minute
    python -m bench.redis_memory             # several loads, some minutes
    python -m bench.redis_memory --report memory.json

Every record goes through the decoder, the duplicates and the tables as in a worker; time is that of the records. The ladder is
shorter than the product's, so that all its levels let panes go within the time that is filled.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from bench.redis_filling import Filling, weigh
from bench.results import save
from streams.config import Kafka, Pane, Settings, Streams, Topic
from streams.embedded import EmbeddedRedis
from streams.planning.load import DAY, EVENTS, Load
from streams.planning.measured import Coefficients, load_coefficients
from streams.planning.tables import Bytes, dedupe_bytes, levels, row_keys

_LADDER = (Pane(size=10, keep=120), Pane(size=60, keep=600), Pane(size=300, keep=DAY), Pane(size=DAY, keep=2 * DAY))
#: Kinds of keys as the plan has them: what is weighed, by the word in the key.
_KINDS = {"pane": "exact", "panes": "exact", "reach": "reach", "dwell": "times", "load": "times", "rows": "names", "seen": "ids"}


@dataclass(frozen=True, slots=True)
class Case:
    """A load for some time."""

    load: Load
    seconds: int = 900
    flush_every: int = 10
    partitions: int = 2

    @property
    def settings(self) -> Settings:
        """With the short ladder."""
        return Settings(kafka=Kafka(partitions=self.partitions), streams=Streams(ladder=_LADDER, http_port=0))


@dataclass(frozen=True, slots=True)
class Compared:
    """Bytes of one kind."""

    kind: str
    measured: float
    planned: float

    @property
    def ratio(self) -> float:
        """Planned over measured."""
        return self.planned / self.measured if self.measured else 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case, filled: all kinds, and the growth of Redis' used_memory against the sum of what was planned."""

    events: int
    kinds: list[Compared]
    used: Compared


def planned(case: Case, c: Coefficients) -> Counter[str]:
    """Bytes by kind; what spend reports add to tables apart: `spend`."""
    found: Counter[str] = Counter()
    load, settings, partitions, seconds = case.load, case.settings, case.partitions, case.seconds
    for topic in EVENTS:
        panes = sum((level.after(seconds) for level in levels(load, topic, settings, partitions, c, seconds)), Bytes())
        found.update({"exact": panes.exact, "reach": panes.reach, "times": panes.times})
        found["names"] += row_keys(load, topic, settings, partitions, c, seconds)[1]  # type: ignore[assignment]
        found["ids"] += dedupe_bytes(load, topic, settings, partitions, c, seconds)  # type: ignore[assignment]
    # The reports are of the day before, of which the two finest levels keep nothing.
    kept = [level for level in levels(load, Topic.SPEND, settings, partitions, c) if level.pane_s > 60]
    found["spend"] += sum(level.after(DAY).all for level in kept) + row_keys(load, Topic.SPEND, settings, partitions, c)[1]  # type: ignore[assignment]
    found["reports"] += load.campaigns * load.reports * c.report_bytes  # type: ignore[assignment]
    return found


async def run_case(case: Case, url: str) -> Outcome:
    """Fill an empty Redis and compare."""
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        before = (await redis.info("memory"))["used_memory"]
        events = await Filling(redis, case.settings, case.load).run(case.seconds, case.flush_every)
        used = (await redis.info("memory"))["used_memory"] - before
        weighed = await weigh(redis, case.settings.redis.namespace)
    measured: Counter[str] = Counter()
    for name, size in weighed.items():
        topic, kind = name.split()
        if topic == Topic.SPEND:
            measured["reports" if kind == "reports" else "spend"] += size
        else:
            measured[_KINDS.get(kind, "other")] += size
    plan = planned(case, load_coefficients())
    kinds = [Compared(kind, measured[kind], plan[kind]) for kind in plan if measured[kind]]
    return Outcome(events, kinds, Compared("used_memory", used, plan.total()))


#: Few events a row and many; one partition and several; users that rows share, and a row's own.
CASES = {
    "sparse": Case(Load(20, 300, 20_000, campaigns_per_user=3)),
    "dense": Case(Load(200, 20, 100_000, campaigns_per_user=2), partitions=1),
    "many campaigns": Case(Load(100, 5_000, 50_000, campaigns_per_user=5), partitions=4),
    "an hour": Case(Load(100, 500, 200_000, campaigns_per_user=4), seconds=3_600, partitions=3),
}


def show(console: Console, name: str, case: Case, found: Outcome) -> None:
    table = Table(
        title=f"{name}: {found.events:,} events of {case.load.campaigns:,} campaigns in {case.seconds:,} s, {case.partitions} partitions"
    )
    for head in ("kind", "measured, KiB", "planned, KiB", "planned / measured"):
        table.add_column(head, justify="left" if head == "kind" else "right")
    for each in (*found.kinds, found.used):
        table.add_row(each.kind, f"{each.measured / 1024:,.0f}", f"{each.planned / 1024:,.0f}", f"{each.ratio:.2f}")
    console.print(table)


def measure(*, quick: bool = False) -> dict[str, Outcome]:
    """All cases, or the first one."""
    with EmbeddedRedis() as server:
        return {name: asyncio.run(run_case(case, server.url)) for name, case in list(CASES.items())[: 1 if quick else None]}


def main(
    quick: Annotated[bool, typer.Option("--quick", help="Only the first load.")] = False,
    report: Annotated[Path | None, typer.Option(help="Also write the outcome to this file, as JSON.")] = None,
    keep: Annotated[bool, typer.Option("--save", help="Save section `memory` of bench/results.json.")] = False,
) -> None:
    """Fill a Redis with known loads and compare its memory with what `campaignwatch plan` says, kind by kind."""
    console = Console(width=100)
    outcomes = measure(quick=quick)
    for name, found in outcomes.items():
        show(console, name, CASES[name], found)
    content = {"cases": {name: asdict(found) | {"ratio": found.used.ratio} for name, found in outcomes.items()}}
    if report:
        report.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if keep:
        save("memory", content)


if __name__ == "__main__":
    typer.run(main)

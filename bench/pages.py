"""How soon a worker answers its pages while it takes in events, and whether asking holds it up.

    python -m bench.pages             # about five minutes
    python -m bench.pages --quick     # about a minute, to see that it works

Clicks of 10,000 campaigns come at half of the rate that one worker takes at most. A client asks for pages of `/api/kpis` as the dashboards
do (50 rows, sorted, cubes and windows in turn, at most 5 s old), ten a second, as one that has been open for a while; twice a second for
`/metrics`, oftener than Prometheus does so that there are enough for a p99; and every two seconds for a page of the tables as they are.
What is asked before the first event is sent or after the last does not count. The same load without a client says what asking costs:
produced -> visible with it and without it, in turn, twice.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from typing import Any
from urllib.request import urlopen

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.clicks import Load
from bench.figures import Latencies
from bench.latency import Bench
from bench.product import Role
from bench.results import save
from bench.servers import servers, settings_for
from streams.topics import create_topics

#: ms at the 99th percentile.
GOALS = {"/metrics": 50.0, "/api/kpis": 20.0}
#: Times the p99 of produced -> visible that it may have with a client.
GOAL_STALL = 1.25
_SHARE = 0.5
#: Seconds.
_ASK_EVERY, _SCRAPE_EVERY, _FRESH_EVERY = 0.1, 0.5, 2.0
#: Times that the load comes without a client and with one.
_ROUNDS = 2
#: What the dashboards ask for, and the name of what does not say how old it may be.
_MAX_AGE, _FRESH = "5s", "/api/kpis, as the tables are"
_QUERIES = (
    "cube=campaign&window=5m&sort=-spend&limit=50",
    "cube=campaign&window=1h&sort=-clicks&limit=50",
    "cube=channel&window=1h&sort=-spend&limit=50",
    "cube=campaign&window=5m&sort=-clicks&limit=50&offset=50",
    "cube=platform&window=5m&sort=-spend&limit=50",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer: when it was asked for (epoch s), which page it was, and how long it took (s)."""

    at: float
    page: str
    took: float


class Client:
    """Asks a worker's pages until the end of the context, from a process of its own: what is measured here would hold its answers up."""

    def __init__(self, url: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._answers, self._theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_ask, args=(url, self._stop, self._theirs), name="client of the pages")
        self.asked: list[Asked] = []

    def __enter__(self) -> Client:
        self._process.start()
        # The process has its own; without this one its end is noticed.
        self._theirs.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.asked = self._answers.recv()
        self._process.join()

    def between(self, first: float, last: float) -> list[Asked]:
        """What was asked for between two moments (epoch s)."""
        return [each for each in self.asked if first <= each.at <= last]


def _ask(url: str, stop: Event, answers: Connection) -> None:
    asked: list[Asked] = []

    def get(path: str, *pages: str) -> None:
        at, began = time.time(), time.perf_counter()
        with urlopen(f"{url}{path}", timeout=30.0) as answer:  # nosec B310 # the worker's own page
            answer.read()
        took = time.perf_counter() - began
        asked.extend(Asked(at, page, took) for page in pages)

    for query in _QUERIES:
        get(f"/api/kpis?{query}&max_age={_MAX_AGE}")
    scrape_at = fresh_at = 0.0
    fresh = cycle(_QUERIES)
    for query in cycle(_QUERIES):
        began = time.perf_counter()
        get(f"/api/kpis?{query}&max_age={_MAX_AGE}", "/api/kpis", query)
        if began >= fresh_at:
            get(f"/api/kpis?{next(fresh)}", _FRESH)
            fresh_at = began + _FRESH_EVERY
        if began >= scrape_at:
            get("/metrics", "/metrics")
            scrape_at = began + _SCRAPE_EVERY
        if stop.wait(max(0.0, began + _ASK_EVERY - time.perf_counter())):
            break
    answers.send(asked)


def measure(*, seconds: float = 45.0, backlog: int = 800_000, campaigns: int = 10_000) -> dict[str, Any]:
    """Everything, with servers of its own; the content of the section `pages`."""
    processes = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    with processes as pool, servers() as (kafka, redis):
        settings = settings_for(kafka, redis, "pages")
        asyncio.run(create_topics(settings))
        worker = Role("streams", settings)
        try:
            bench = Bench(settings, worker, pool, Load(campaigns, 200_000))
            rate = _SHARE * bench.maximum(backlog)
            worker.start()
            without: list[Latencies] = []
            beside: list[Latencies] = []
            asked: list[Asked] = []
            for _ in range(_ROUNDS):
                without.append(bench.point(rate, seconds, _SHARE).latencies)
                with Client(worker.url) as client:
                    point = bench.point(rate, seconds, _SHARE)
                beside.append(point.latencies)
                asked += client.between(*point.sent)
        finally:
            worker.close()
    took = {name: np.array([each.took for each in asked if each.page == name]) for name in (*GOALS, _FRESH, *_QUERIES)}
    pages = {name: Latencies.of(taken).content() for name, taken in took.items()}
    stall = sum(each.p99 for each in beside) / sum(each.p99 for each in without)
    return {
        "campaigns": campaigns,
        "events_per_second": round(rate),
        "pages": pages,
        "visible_ms": {"without_client": [each.content() for each in without], "with_client": [each.content() for each in beside]},
        "stall": round(stall, 2),
        "goals": {**GOALS, "stall": GOAL_STALL},
        "reached": all(pages[name]["p99"] < goal for name, goal in GOALS.items()) and stall < GOAL_STALL,
    }


def _p99s(runs: list[dict[str, float]]) -> str:
    return " and ".join(f"{each['p99']:,.0f}" for each in runs)


def table(found: dict[str, Any]) -> Table:
    """What was found, for people."""
    visible = found["visible_ms"]
    shown = Table(
        title=f"pages of a worker that takes {found['events_per_second']:,} events/s of {found['campaigns']:,} campaigns, ms",
        caption=(
            f"produced -> visible, p99: {_p99s(visible['with_client'])} ms with a client, {_p99s(visible['without_client'])} without, "
            f"{found['stall']} times; goals {'reached' if found['reached'] else 'NOT REACHED'}"
        ),
    )
    for heading in ("page", "asked", "p50", "p99", "max", "goal"):
        shown.add_column(heading, justify="left" if heading == "page" else "right")
    for name, took in found["pages"].items():
        goal = f"< {GOALS[name]:.0f}" if name in GOALS else ""
        shown.add_row(name, str(took["count"]), *(f"{took[each]:,.1f}" for each in ("p50", "p99", "highest")), goal)
    return shown


def run(*, quick: bool = False) -> dict[str, Any]:
    """Measure, print, and return the content of the section `pages`."""
    found = measure(seconds=8.0, backlog=150_000) if quick else measure()
    Console(width=140).print(table(found))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a trial of about a minute; nothing is saved")
    arguments = parser.parse_args()
    found = run(quick=arguments.quick)
    if not arguments.quick:
        save("pages", found)


if __name__ == "__main__":
    main()

"""Measure: `make bench`, or `python -m bench`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bench import alert_delay, alerts_tick, latency, pages, scale, soak
from bench.jobs import THROUGHPUT_JOB, YSB_JOB, Job, Options, run_job
from bench.report import table
from bench.results import RESULTS, save

_console = Console(width=150)

#: Each section measures, prints its table, and returns what the results keep under its name.
Section = Callable[[Options, bool], dict[str, Any]]


def _job(job: Job) -> Section:
    def run(options: Options, quick: bool) -> dict[str, Any]:
        found = run_job(job, options, _console.print)
        _console.print(table(found))
        return found

    return run


SECTIONS: dict[str, Section] = {
    "throughput": _job(THROUGHPUT_JOB),
    "ysb": _job(YSB_JOB),
    "latency": lambda _, quick: latency.run(quick=quick),
    "scale": lambda _, quick: scale.run(quick=quick),
    "pages": lambda _, quick: pages.run(quick=quick),
    "alerts_tick": lambda _, quick: alerts_tick.run(quick=quick),
    "alert_delay": lambda _, quick: alert_delay.run(quick=quick),
    "soak": lambda _, quick: soak.run(quick=quick),
}
#: What is run when nothing is named.
USUAL = ("throughput", "ysb", "latency")


def main(
    only: Annotated[
        list[str], typer.Option(help=f"section to run; may be repeated: {', '.join(SECTIONS)} (default: {', '.join(USUAL)})")
    ] = [],  # noqa: B006
    quick: Annotated[bool, typer.Option("--quick", help="a trial: one run of few events; nothing is kept without --report")] = False,
    runs: Annotated[int | None, typer.Option(min=1, help="how often each contender runs, in turn with the others (default 3)")] = None,
    events: Annotated[int | None, typer.Option(min=2_000, help="how many events; slow contenders get fewer (default 3,000,000)")] = None,
    contenders: Annotated[str, typer.Option(help="comma-separated, those that take part in throughput and ysb (default: all)")] = "",
    here: Annotated[bool, typer.Option("--here", help="run Faust with this very Python instead of an environment of its own")] = False,
    report: Annotated[
        Path | None, typer.Option(help="JSON file for the results; sections that it has stay (default: bench/results.json)")
    ] = None,
) -> None:
    """Measure Campaignwatch beside its peers on this machine, one after the other, on the same broker and the same bytes.

    Takes about half an hour. The first run installs the peers below .cache/bench (a few minutes); Apache Kafka and Flink need Java 17
    and Maven. Answers are checked; a rate whose answer is wrong counts for nothing.
    """
    names = _known(only, SECTIONS)
    entered = {contender.name for job in (THROUGHPUT_JOB, YSB_JOB) for contender in job.contenders}
    usual = Options(events=400_000, runs=1) if quick else Options()
    options = Options(
        events=events or usual.events,
        runs=runs or usual.runs,
        contenders=tuple(_known([name.strip() for name in contenders.split(",") if name.strip()], dict.fromkeys(entered))),
        here=here,
    )
    for name in names or USUAL:
        found = SECTIONS[name](options, quick)
        if report is not None or not quick:
            save(name, found, report or RESULTS)


def _known(names: list[str], known: dict[str, Any]) -> list[str]:
    for name in names:
        if name not in known:
            raise typer.BadParameter(f"there is no {name!r}; there are {', '.join(sorted(known))}")
    return names


if __name__ == "__main__":
    typer.run(main)

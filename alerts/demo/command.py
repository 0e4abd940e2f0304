"""The command `campaignwatch demo`."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from alerts.demo.report import Outcome
from alerts.demo.run import Demo, Plan, now_ms
from alerts.demo.screen import Lines, Screen
from alerts.demo.services import DemoError, Services
from alerts.demo.story import Story
from streams.config import load
from streams.errors import UserError
from streams.options import ConfigOption
from streams.simulate.catalogue import RATES
from streams.simulate.faults import timing
from streams.simulate.lengths import read_duration
from streams.simulate.world import CAMPAIGNS, RATE, build_world

#: Exit status after Ctrl-C or SIGTERM, as shells have it for an interrupted command.
INTERRUPTED = 130


def demo(
    duration: Annotated[str, typer.Option(help="How long it is live: 600, 90s, 10m. Four faults need 7 minutes, one needs 260 s.")] = "10m",
    headless: Annotated[bool, typer.Option("--headless", help="Plain lines instead of the live screen.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write what happened, as JSON.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same campaigns and the same audience.")] = 1,
    campaigns: Annotated[int, typer.Option(help="How many campaigns.")] = CAMPAIGNS,
    rate: Annotated[float, typer.Option(help="Events per second of all campaigns, mean over a day.")] = RATE,
    history: Annotated[str, typer.Option(help="How much of the past is played first, so that the judges know what is normal.")] = "45m",
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep the screen at its busiest moment, as SVG.")] = None,
    config: ConfigOption = None,
) -> None:
    """Run everything on this machine for ten minutes: broker, Redis, workers, a marketing day, four faults and their alerts.

    Exit status: 0 when every fault was found and nothing else, 1 when not, 2 when the demo could not run, 130 after Ctrl-C.
    """
    try:
        seconds, past = read_duration(duration), read_duration(history)
        rng = np.random.default_rng(seed)
        world = build_world(rng, campaigns, rate)
    except ValueError as error:
        raise UserError(str(error)) from error
    if seconds < 10:
        raise UserError(f"--duration {duration}: at least 10 s, or there is nothing to see")
    for file in (report, picture):
        if file is not None and not file.resolve().parent.is_dir():
            raise UserError(f"{file} cannot be written: there is no directory {file.resolve().parent}")
    story = Story(world=world, rates={currency: float(rate) for currency, rate in RATES.items()})
    plan = Plan(seed=seed, world=world, rng=rng, duration=seconds, history=past, picture=picture)
    view = Lines(story, _print, now_ms) if headless or not sys.stdout.isatty() else Screen(story, Console(), now_ms)
    services = Services(load(config), config, view.say)
    try:
        with view:
            outcome = asyncio.run(_run(Demo(plan, services, story, view), services))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _print("interrupted; everything that the demo started has ended")
        raise typer.Exit(INTERRUPTED) from None
    if report is not None:
        _write(report, outcome)
    _summarise(outcome, len(timing(seconds).starts))
    if outcome.problems():
        raise typer.Exit(1)


async def _run(demo: Demo, services: Services) -> Outcome:
    task = asyncio.current_task()
    assert task is not None
    # The terminal goes away or a supervisor ends us: the same as Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await demo.run()
    finally:
        await services.close()


def _write(file: Path, outcome: Outcome) -> None:
    try:
        file.write_text(json.dumps(outcome.content(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DemoError(f"{file} cannot be written: {error.strerror}") from error


def _summarise(outcome: Outcome, faults: int) -> None:
    content = outcome.content()
    found = sum(fault["incident_id"] is not None for fault in content["faults"])
    _print(
        f"{sum(outcome.produced.values()):,} events, {outcome.events_per_second:,.0f}/s live, "
        f"{outcome.catch_up_rate:,.0f}/s while catching up"
    )
    for fault in content["faults"]:
        after = fault["seconds_to_incident"]
        _print(f"  {fault['kind']} at {fault['campaign_id']}: " + ("no incident" if after is None else f"found after {after:.0f} s"))
    for remark in outcome.remarks():
        _print(f"note: {remark}")
    problems = outcome.problems()
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if not problems:
        _print(f"{found} of {faults} faults found, nothing else opened, every event accounted for")


def _print(line: str) -> None:
    typer.echo(line)
    sys.stdout.flush()

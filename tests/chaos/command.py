"""The command `python -m tests.chaos`, which `make chaos` runs."""

from __future__ import annotations

import asyncio
import logging
import random
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from streams.errors import UserError
from tests.chaos.faults import KINDS, able_kinds
from tests.chaos.planted import PLANTED
from tests.chaos.report import Report, RoundResult, round_line, show, show_failure
from tests.chaos.rounds import Options, Run
from tests.chaos.servers import Servers

#: Events a second, at the least, while a planted bug is looked for.
_PLANTED_RATE = 200


def chaos(
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of faults, each followed by a comparison of everything.")] = 100,
    seed: Annotated[int | None, typer.Option("--seed", help="Draws faults and events; the same seed, the same plan.")] = None,
    faults: Annotated[str, typer.Option("--faults", metavar="NAME,NAME", help="Only these kinds of faults; see --list-faults.")] = "",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Streams workers.")] = 2,
    rate: Annotated[int, typer.Option("--rate", min=20, help="Events a second while faults happen.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="Seconds of a round within which its faults begin.")] = 5.0,
    kafka: Annotated[
        str, typer.Option("--kafka", help="apache (Java and Maven), embedded (cannot be killed), or cluster (three nodes of Apache).")
    ] = "apache",
    redis: Annotated[
        str, typer.Option("--redis", help="single (append-only file, everysec), or cluster (three masters, three replicas).")
    ] = "single",
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the result as JSON.")] = None,
    planted: Annotated[str | None, typer.Option("--planted", metavar="NAME", help="Plant this bug; it must be found: status 1.")] = None,
    all_planted: Annotated[bool, typer.Option("--all-planted", help="Plant every bug in turn; status 0 when each is found.")] = False,
    list_planted: Annotated[bool, typer.Option("--list-planted", help="Name every bug that can be planted, and end.")] = False,
    list_faults: Annotated[bool, typer.Option("--list-faults", help="Name every kind of fault, and end.")] = False,
) -> None:
    """Hurt everything again and again, and see that the tables in Redis are still exactly what the Kafka log says.

    Starts a broker, a Redis, workers and two alerts replicas of its own, sends hostile events, kills, freezes, cuts and empties what the
    seed says, waits until the workers have caught up, and holds the ledger, every cube, the registry, the quarantine and the incidents
    against the log, judged by slow code that shares nothing with the workers. Exit status: 0 all is equal, 1 something is not, 2 it could
    not run.

    100 rounds take about 45 minutes on two cores. A first look: --rounds 5. To see a failure again: --seed with its seed.
    """
    if list_faults:
        for kind in KINDS.values():
            typer.echo(f"{kind.name:16} {kind.summary}")
        return
    if list_planted:
        for bug in PLANTED.values():
            typer.echo(f"{bug.name:24} {bug.summary}")
        return
    options = Options(seed if seed is not None else random.randrange(1_000_000), rounds, workers, rate=rate, seconds=seconds)
    only = [name.strip() for name in faults.split(",") if name.strip()]
    if all_planted:
        sys.exit(0 if try_all_planted(options, kafka, redis, Console()) else 1)
    if planted is not None:
        result = run_planted(planted, options, kafka, redis, only, Console(), keep=True)
    else:
        result = run_chaos(options, kafka, redis, only, Console())
    if report is not None:
        result.write(report)
    sys.exit(0 if result.good else 1)


def run_chaos(options: Options, kafka: str, redis: str, only: list[str], console: Console, *, keep: bool = True) -> Report:
    """A whole run; with `keep`, what it leaves is kept when it failed. Raises UserError when it cannot be done."""
    result = Report(options.seed, kafka, redis)
    directory = Path(tempfile.mkdtemp(prefix="campaignwatch-chaos-"))
    failed = True

    def told(one: RoundResult) -> None:
        console.print(round_line(one, options.rounds), markup=False, highlight=False, soft_wrap=True)
        if not one.good and keep:
            show_failure(one, options.seed, directory, console)

    console.print(f"seed {options.seed}: {options.rounds} rounds on {kafka} Kafka and {redis} Redis", highlight=False)
    try:
        servers = Servers(kafka, redis, directory)
        kinds = able_kinds(servers.offers, only)
        with servers:
            asyncio.run(Run(servers, kinds, options, directory, result).run(told))
        failed = not result.good
    except UserError:
        failed = False
        raise
    finally:
        if not failed or not keep:
            shutil.rmtree(directory, ignore_errors=True)
        elif not result.rounds or result.rounds[-1].good:
            console.print(f"what there was is kept in {directory}", markup=False)
    show(result, console)
    return result


def run_planted(name: str, options: Options, kafka: str, redis: str, only: list[str], console: Console, *, keep: bool = False) -> Report:
    """A run with a bug planted, of at most the rounds within which it must be found."""
    if name not in PLANTED:
        raise UserError(f"--planted: there is no {name!r}; there are {', '.join(PLANTED)}")
    bug = PLANTED[name]
    console.print(f"planted: {bug.name}: {bug.summary}", markup=False, highlight=False)
    # Many events: what one of them spoils, the next one may mend, as it writes the same rows anew.
    rate = max(options.rate, _PLANTED_RATE)
    planted = replace(options, rounds=min(options.rounds, bug.rounds), rate=rate, launcher=("tests.chaos.planted", name), patience=30.0)
    return run_chaos(planted, kafka, redis, only or list(bug.faults), console, keep=keep)


def try_all_planted(options: Options, kafka: str, redis: str, console: Console) -> bool:
    """Whether every planted bug is found."""
    found = {name: not run_planted(name, options, kafka, redis, [], console).good for name in PLANTED}
    table = Table("planted bug", "", "found")
    for name, was_found in found.items():
        table.add_row(name, PLANTED[name].summary, "yes" if was_found else "NO")
    console.print(table)
    return all(found.values())


def main() -> None:
    """Run the command line."""
    # As Ctrl-C, in the background too: everything is ended in order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Brokers that are away are what this is about.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    logging.getLogger("aiokafka").propagate = False
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command("chaos")(chaos)
    try:
        app()
    except UserError as error:
        typer.echo(f"chaos: {error}", err=True)
        sys.exit(2)

"""`make fuzz`: hostile payloads for the decoders, the registry, the quarantine, the HTTP pages and the files that operators write."""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from streams.config import EVENT_TOPICS, Topic
from tests.fuzz.flushing import FlushTarget
from tests.fuzz.http import HttpTarget
from tests.fuzz.running import Failed, Tally, read_failure, run
from tests.fuzz.targets import Target, pure_targets

#: Where most payloads go; reading YAML takes ten times as long as all else.
_WEIGHTS = {
    "clicks": 20,
    "conversions": 20,
    "engagements": 20,
    "spend": 12,
    "campaigns": 10,
    "quarantine": 5,
    "http": 12,
    "flush_spend": 0.3,
}


def main(
    payloads: Annotated[int, typer.Option(min=1, help="how many, over all targets")] = 100_000,
    seed: Annotated[int | None, typer.Option(help="of all chance; without it a new one, which is shown")] = None,
    only: Annotated[str, typer.Option(help="one target instead of all")] = "",
    coverage: Annotated[bool, typer.Option(help="let atheris choose the payloads of the decoders, by the code that they reach")] = False,
    saved: Annotated[Path, typer.Option(help="where a failing payload is written")] = Path("fuzz-failure.json"),
    again: Annotated[Path | None, typer.Option(help="a file that --saved wrote: judge its payload once more")] = None,
    report: Annotated[Path | None, typer.Option(help="write the numbers as JSON")] = None,
) -> None:
    """Send hostile payloads. Exits with 1 at the first that the program fails on, and saves the smallest that fails alike."""
    logging.disable(logging.CRITICAL)
    seed = secrets.randbelow(10**9) if seed is None else seed
    if coverage:
        os.execv(sys.executable, [sys.executable, "-m", "tests.fuzz.guided", str(payloads), str(seed)])
    with ExitStack() as stack:
        targets = [*pure_targets(), *(FlushTarget(topic) for topic in (*EVENT_TOPICS, Topic.CAMPAIGNS)), HttpTarget()]
        if again is not None:
            name, sent = read_failure(again)
            [target] = [each for each in targets if each.name == name]
            stack.enter_context(target)
            typer.echo(f"{name}: {', '.join(target.judge(sent))}")
            return
        if only and only not in {target.name for target in targets}:
            raise typer.BadParameter(f"{only!r}: there are {', '.join(target.name for target in targets)}")
        targets = [target for target in targets if only in ("", target.name)]
        for target in targets:
            stack.enter_context(target)
        started = time.monotonic()
        typer.echo(f"{payloads} payloads, seed {seed}")
        try:
            tallies = run({target: _weight(target) for target in targets}, payloads, seed, _tell)
        except Failed as failed:
            saved.write_text(json.dumps(failed.failure.content(), indent=1), encoding="utf-8")
            typer.echo(
                f"{failed.failure.trace}\n{failed.failure.target}: FAILED: {failed.failure.sign}; the payload is in {saved}", err=True
            )
            raise typer.Exit(1) from None
    seconds = time.monotonic() - started
    for name, tally in tallies.items():
        outcomes = ", ".join(f"{outcome} {count}" for outcome, count in tally.outcomes.most_common())
        typer.echo(f"{name}: {tally.payloads} in {tally.seconds:.0f} s, at most {tally.slowest_ms:.0f} ms for one: {outcomes}")
    typer.echo(f"{sum(tally.payloads for tally in tallies.values())} payloads in {seconds:.0f} s, no failure")
    if report is not None:
        shown = {name: {"payloads": t.payloads, "seconds": round(t.seconds, 1), "slowest_ms": round(t.slowest_ms, 1), "outcomes": dict(t.outcomes)} for name, t in tallies.items()}  # fmt: skip
        report.write_text(
            json.dumps({"seed": seed, "seconds": round(seconds, 1), "targets": shown, "failures": 0}, indent=1), encoding="utf-8"
        )


def _weight(target: Target) -> float:
    return _WEIGHTS.get(target.name, 1 if isinstance(target, FlushTarget) else 0.3)


def _tell(tallies: dict[str, Tally]) -> None:
    typer.echo(f"  {sum(tally.payloads for tally in tallies.values())} so far", err=True)
    sys.stderr.flush()


if __name__ == "__main__":
    typer.run(main)

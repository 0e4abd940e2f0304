"""The command `campaignwatch doctor`."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alerts.doctor.examining import Examination, examine
from streams.config import load
from streams.doctor.finding import Finding, Level
from streams.options import ConfigOption

_STYLE = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "bold red"}
#: Columns of the table where it does not go to a terminal.
_WIDTH = 140
_ORDER = (Level.FAILURE, Level.WARNING, Level.OK)


def doctor(
    everything: Annotated[bool, typer.Option("--all", help="Show what is well too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all findings as JSON.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, metavar="SECONDS", help="For each question; what is slower counts as away.")
    ] = 10.0,
    config: ConfigOption = None,
) -> None:
    """Say what is wrong with broker, topics, Redis, tables, lag and alerts, and what to do.

    Nothing is changed, and nothing has to be stopped. Give it the settings that the processes have.

    Exit status: 0 no failure (there may be warnings), 1 a failure, 2 neither Kafka nor Redis could be looked at, or the settings cannot be
    used. docs/operations.md says more on each finding.
    """
    settings = load(config)
    # What the client libraries would say of an absent server is said by the findings.
    for name in ("aiokafka", "redis", "alerts"):
        logging.getLogger(name).addHandler(logging.NullHandler())
        logging.getLogger(name).propagate = False
    examined = asyncio.run(examine(settings, timeout))
    if as_json:
        typer.echo(as_document(examined))
    else:
        console = Console()
        # A pipe has no width; what is read later is better not broken at 80 columns.
        show(console if console.is_terminal else Console(width=_WIDTH), examined, everything=everything)
    raise typer.Exit(examined.status)


def as_document(examined: Examination) -> str:
    """The findings for programs: {"status", "failures", "warnings", "findings": [{"level", "what", "detail", "do"}]}."""
    counts = _counts(examined.findings)
    document = {
        "status": examined.status,
        "failures": counts[Level.FAILURE],
        "warnings": counts[Level.WARNING],
        "findings": [asdict(finding) for finding in examined.findings],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def show(console: Console, examined: Examination, *, everything: bool) -> None:
    """The findings for people, the worst first; what is well only with `everything`."""
    counts = _counts(examined.findings)
    shown = sorted((f for f in examined.findings if everything or f.level is not Level.OK), key=lambda f: _ORDER.index(f.level))
    if shown:
        table = Table(show_lines=True)
        for title in ("", "what", "is so", "do"):
            # Words of servers and topics, never markup.
            table.add_column(title, overflow="fold")
        for finding in shown:
            table.add_row(
                Text(finding.level.value, style=_STYLE[finding.level]), Text(finding.what), Text(finding.detail), Text(finding.do)
            )
        console.print(table)
    more = "" if everything else " (--all shows them)"
    console.print(f"{counts[Level.FAILURE]} failures, {counts[Level.WARNING]} warnings, {counts[Level.OK]} well{more}", highlight=False)


def _counts(findings: Sequence[Finding]) -> dict[Level, int]:
    return {level: sum(finding.level is level for finding in findings) for level in Level}
